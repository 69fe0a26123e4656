import pytest

from bastide.errors import MalformedError
from bastide.sgx.certification import PlatformIdentification
from bastide.sgx.quote import CertificationData, Quote
from bastide.sgx.types import CpuSvn, Svn
from support.vectors import vectors


@pytest.mark.parametrize(("kind", "ppid", "size"), [(1, 16, 36), (2, 256, 276), (3, 384, 404)])
def test_reads_what_it_built(kind: int, ppid: int, size: int) -> None:
    platform = PlatformIdentification(
        type=kind, ppid=b"\x11" * ppid, cpu_svn=CpuSvn(b"\x22" * 16), pce_svn=Svn(0x0304), pce_id=b"\x55\x66"
    )
    data = platform.build()
    assert (data.type, len(data.data)) == (kind, size)
    assert data.data[ppid + 16 :] == b"\x04\x03\x55\x66"
    assert PlatformIdentification.parse(data) == platform


@pytest.mark.parametrize(
    ("code", "kind", "size"),
    [("quote.platform.type", 5, 36), ("quote.platform.type", 4, 36), ("quote.platform.size", 1, 35)],
)
def test_refuses_other_types_and_sizes(code: str, kind: int, size: int) -> None:
    with pytest.raises(MalformedError) as caught:
        PlatformIdentification.parse(CertificationData(type=kind, data=bytes(size)))
    assert caught.value.code == code


def test_reads_a_real_encrypted_ppid() -> None:
    quote = Quote.parse((vectors("dcap") / "quotes" / "sgx3-fortanix-type3.bin").read_bytes())
    platform = PlatformIdentification.parse(quote.certification)
    assert (platform.type, len(platform.ppid), platform.pce_svn, platform.pce_id) == (3, 384, 6, bytes(2))
    assert platform.build() == quote.certification
