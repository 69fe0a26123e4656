"""Gramine's layout against a plain re-statement of it: self-made vectors, for no public ones exist."""

import struct
from dataclasses import replace

import pytest

from bastide.enclave.elf import ElfImage
from bastide.enclave.gramine import MAX_MANIFEST, Manifest, blocks
from bastide.enclave.layout import EnclaveLayout
from bastide.errors import MalformedError
from bastide.sgx.secs import Tcs
from support.enclave_files import (
    DATA,
    PAGE,
    REG_R,
    REG_RW,
    REG_RWX,
    REG_RX,
    SEGMENTS,
    TCS,
    TEXT,
    Elf,
    PlainMeasurer,
    Seg,
)

LIBPAL = Elf(segments=SEGMENTS, entry=0x40).build()
LIBPAL_PAGES = 5
MANIFEST = """\
libos.entrypoint = "/bin/app"

[sgx]
enclave_size = "16M"
max_threads = {threads}
edmm_enable = {edmm}
file_check_policy = "strict"

[[sgx.trusted_files]]
uri = "file:/bin/app"
sha256 = "00"
"""


def manifest(threads: int = 2, edmm: bool = False) -> bytes:
    return MANIFEST.format(threads=threads, edmm=str(edmm).lower()).encode()


def layout(text: bytes) -> EnclaveLayout:
    (block,) = blocks(Manifest.parse(text), ElfImage.parse(LIBPAL))
    assert block.layout is not None
    return block.layout


def expected(text: bytes, threads: int, *, edmm: bool, size: int = 1 << 24) -> PlainMeasurer:
    """The layout in words of its description, area by area from the top."""
    measurer = PlainMeasurer(size, 4)
    top = size
    measured = text + b"\0"
    top -= -(-len(measured) // PAGE) * PAGE
    measurer.pages(top, REG_R, measured)
    ssa = top - threads * 8 * PAGE
    tcs = ssa - threads * PAGE
    tls = tcs - threads * PAGE
    stacks = [tls - (thread + 1) * 64 * PAGE for thread in range(threads)]
    signal_stacks = [stacks[-1] - (thread + 1) * 16 * PAGE for thread in range(threads)]
    pal = signal_stacks[-1] - LIBPAL_PAGES * PAGE
    measurer.pages(ssa, REG_RW, b"", threads * 8)
    for thread in range(threads):
        own, gs = ssa + thread * 8 * PAGE, tls + thread * PAGE
        page = Tcs(ossa=own, nssa=2, oentry=pal + 0x40, ofs_base=0, ogs_base=gs, fs_limit=0xFFF, gs_limit=0xFFF)
        measurer.pages(tcs + thread * PAGE, TCS, page.build())
    for thread in range(threads):
        own = ssa + thread * 8 * PAGE
        page_ = bytearray(PAGE)
        struct.pack_into("<QQ", page_, 0, tls + thread * PAGE, 0xBADBADBADBAD)
        struct.pack_into("<QQQ", page_, 272, size, tcs + thread * PAGE, stacks[thread] + 64 * PAGE)
        struct.pack_into("<QQ", page_, 304, signal_stacks[thread], signal_stacks[thread] + 16 * PAGE)
        struct.pack_into("<QQ", page_, 328, own, own + 4 * PAGE - 184)
        struct.pack_into("<QQQ", page_, 416, len(measured), 0x10000, pal)
        measurer.pages(tls + thread * PAGE, REG_RW, bytes(page_))
    for stack in stacks:
        measurer.pages(stack, REG_RW, b"", 64)
    for stack in signal_stacks:
        measurer.pages(stack, REG_RW, b"", 16)
    measurer.pages(pal, REG_RX, TEXT).pages(pal + 0x3000, REG_RW, bytes(0x100) + DATA).pages(pal + 0x4000, REG_RW, b"")
    return measurer if edmm else measurer.bare(0x10000, REG_RWX, (pal - 0x10000) // PAGE)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("edmm", [False, True])
def test_areas_lie_from_the_top_downwards_and_the_rest_is_heap(threads: int, edmm: bool) -> None:
    text = manifest(threads, edmm)
    assert layout(text).measure().digest() == expected(text, threads, edmm=edmm).digest()


def test_a_manifest_that_fills_its_pages_gets_one_more_for_its_end() -> None:
    text = manifest().ljust(PAGE, b"\n")
    assert layout(text).measure().digest() == expected(text, 2, edmm=False).digest()


@pytest.mark.parametrize("edmm", [False, True])
def test_with_edmm_the_heap_comes_later(edmm: bool) -> None:
    (block,) = blocks(Manifest.parse(manifest(edmm=edmm)), ElfImage.parse(LIBPAL))
    assert block.summary is not None
    assert block.layout is not None
    most = block.summary.heap_pages_most
    assert most > 3000
    assert (block.summary.heap_pages, block.summary.dynamic_pages) == ((0, most) if edmm else (most, 0))


def test_without_libpal_there_is_no_layout() -> None:
    (block,) = blocks(Manifest.parse(manifest()), None)
    assert block.layout is None
    assert block.summary is None


def test_reads_sizes_past_tables_of_files() -> None:
    many = "".join(f'[[sgx.trusted_files]]\nuri = "file:/{i}"\nsha256 = "{i:064x}"\n\n' for i in range(100))
    found = Manifest.parse((many + '[sgx]\nenclave_size = "1G"\nmax_threads = 9\n').encode())
    assert (found.enclave_size, found.threads, found.edmm) == (1 << 30, 9, False)


def test_reads_manifests_whose_file_tables_are_not_plain() -> None:
    text = '[[sgx.trusted_files]]\nuri = [\n"a"\n]\n[sgx.x]\ny = """\n[[sgx.trusted_files]]\n"""\n'
    found = Manifest.parse(("[sgx]\nmax_threads = 5\n" + text).encode())
    assert found.threads == 5
    plain = '[sgx]\nmax_threads = 5\n[[sgx.trusted_files]]\nuri = [\n"a",\n"b" ]\n'
    assert Manifest.parse(plain.encode()).threads == 5


@pytest.mark.parametrize(
    ("value", "size"), [('"256M"', 1 << 28), ('"0x10000000"', 1 << 28), ("268435456", 1 << 28), ('"64K"', 1 << 16)]
)
def test_reads_sizes_as_gramine_writes_them(value: str, size: int) -> None:
    assert Manifest.parse(f"[sgx]\nenclave_size = {value}\n".encode()).enclave_size == size


def test_defaults_are_those_of_gramine() -> None:
    found = Manifest.parse(b"[sgx]\n")
    assert (found.enclave_size, found.threads, found.edmm) == (1 << 28, 4, False)


def test_names_settings_that_give_up_a_protection() -> None:
    text = (
        "loader.insecure__use_cmdline_argv = true\nloader.insecure__disable_aslr = false\n[sgx]\ndebug = true\n"
        'file_check_policy = "allow_all_but_log"\nallowed_files = ["file:/tmp/"]\n'
    )
    found = " ".join(Manifest.parse(text.encode()).insecure)
    assert "insecure__use_cmdline_argv" in found
    assert "disable_aslr" not in found
    assert all(word in found for word in ("sgx.debug", "allow_all_but_log", "allowed_files: 1 "))
    assert Manifest.parse(manifest()).insecure == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "enclave.manifest.value"),
        (b"sgx = 1", "enclave.manifest.value"),
        (b"[sgx", "enclave.manifest.syntax"),
        (b"\xff\xfe", "enclave.manifest.syntax"),
        (b"x = " + b"[" * 5000, "enclave.manifest.syntax"),
        (b"x = " + b"9" * 5000, "enclave.manifest.syntax"),
        (b"a." * 65 + b"a = 1", "enclave.manifest.syntax"),
        (b"a." * 1_000_000 + b"a = 1", "enclave.manifest.syntax"),
        (b"[sgx]\nenclave_size = '3M'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = '4K'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = '-1'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = '99999999999G'", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = true", "enclave.manifest.value"),
        (b"[sgx]\nenclave_size = [1]", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = 0", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = 5000", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = true", "enclave.manifest.value"),
        (b"[sgx]\nmax_threads = '4'", "enclave.manifest.value"),
        (b" " * (MAX_MANIFEST + 1), "enclave.manifest.size"),
    ],
)
def test_refuses_manifests_that_cannot_be(text: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Manifest.parse(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("segments", "code"),
    [
        ((), "enclave.gramine.libpal"),
        ((Seg(address=0x10000, data=TEXT),), "enclave.gramine.libpal"),
        ((replace(SEGMENTS[0], memory=1 << 30),), "enclave.gramine.size"),
    ],
)
def test_refuses_a_libpal_that_does_not_fit(segments: tuple[Seg, ...], code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        blocks(Manifest.parse(manifest()), ElfImage.parse(Elf(segments=segments).build()))
    assert caught.value.code == code


def test_refuses_more_threads_than_fit() -> None:
    with pytest.raises(MalformedError) as caught:
        layout(manifest(threads=100))
    assert caught.value.code == "enclave.gramine.size"


def test_refuses_more_toml_than_a_manifest_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.gramine.MAX_PARSED", 1000)
    tables = b'[[sgx.trusted_files]]\nuri = "file:x"\n' * 1000
    assert Manifest.parse(b"[sgx]\n" + tables).threads == 4
    with pytest.raises(MalformedError) as caught:
        Manifest.parse(b"[sgx]\n" + b"".join(b"k%d = 1\n" % number for number in range(1000)))
    assert caught.value.code == "enclave.manifest.size"
