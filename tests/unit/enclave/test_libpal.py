"""Which libpal.so of an image is that of a Gramine enclave; on files that we made ourselves."""

import struct
from dataclasses import replace

import pytest

from bastide.enclave.image import EnclaveFile
from bastide.enclave.libpal import MOST_LIBPALS, read_with_libpals
from bastide.enclave.measure import Work, measure
from bastide.errors import MalformedError
from support.enclave_files import SEGMENTS, TEXT, Elf, Seg
from support.gramine_files import LIBPAL, manifest_text, signature

TEXT_ = manifest_text()
SIG = signature(TEXT_)
OTHER, THIRD = Elf(segments=SEGMENTS, entry=0x48).build(), Elf(segments=SEGMENTS, entry=0x50).build()
BOUND = Elf(segments=(Seg(address=0x10000, data=TEXT),)).build()


def choose(*libpals: bytes, sig: bytes | None = SIG) -> EnclaveFile:
    return read_with_libpals(TEXT_, sig=sig, libpals=libpals, spend=Work().spend)


def matches(enclave: EnclaveFile) -> bool | None:
    (measured,) = measure(enclave)
    return measured.matches


@pytest.mark.parametrize("libpals", [(LIBPAL,), (LIBPAL, OTHER), (OTHER, LIBPAL), (BOUND, b"\x7fELF", OTHER, LIBPAL)])
def test_the_one_that_gives_the_signed_measurement_is_taken(libpals: tuple[bytes, ...]) -> None:
    found = choose(*libpals)
    assert matches(found) is True
    assert found.defect == ""


def test_a_single_other_one_gives_another_measurement() -> None:
    assert matches(choose(OTHER)) is False


def test_of_several_none_of_which_gives_it_nothing_is_measured() -> None:
    found = choose(OTHER, THIRD)
    assert matches(found) is None
    assert "none of 2 different files libpal.so in the image gives the signed MRENCLAVE" in found.note


@pytest.mark.parametrize(
    ("libpals", "sig", "why"),
    [
        ((), SIG, "the image has no libpal.so"),
        ((BOUND,), SIG, "does not fit: expected libpal.so with segments from address 0"),
        ((b"\x7fELF",), SIG, "does not fit"),
        ((LIBPAL, OTHER), None, "not signed"),
        ((LIBPAL, OTHER), bytes(1808), "not signed"),
        ((BOUND, OTHER), SIG, "unfit: expected libpal.so"),
        ((LIBPAL, *(struct.pack("<I", one) for one in range(MOST_LIBPALS))), SIG, "more than 4"),
    ],
)
def test_what_cannot_be_measured_says_why(libpals: tuple[bytes, ...], sig: bytes | None, why: str) -> None:
    found = choose(*libpals, sig=sig)
    assert matches(found) is None
    assert why in found.defect
    assert found.note.startswith(found.defect)


def test_an_unsigned_enclave_with_one_libpal_is_laid_out() -> None:
    assert choose(LIBPAL, sig=None).blocks[0].layout is not None


def test_trying_several_is_counted_as_work() -> None:
    spent: list[int] = []
    read_with_libpals(TEXT_, sig=SIG, libpals=(OTHER, LIBPAL), spend=spent.append)
    assert len(spent) == 2
    assert min(spent) > 1 << 20

    def refuse(hashed: int) -> None:
        raise MalformedError("enclave.layout.work", f"{hashed}")

    with pytest.raises(MalformedError) as caught:
        read_with_libpals(TEXT_, sig=SIG, libpals=(OTHER, LIBPAL), spend=refuse)
    assert caught.value.code == "enclave.layout.work"


def test_an_enclave_too_large_to_be_measured_is_refused_and_not_called_unfit() -> None:
    huge = b'[sgx]\nenclave_size = "65536G"\n'
    with pytest.raises(MalformedError) as caught:
        read_with_libpals(huge, sig=None, libpals=(LIBPAL,), spend=Work().spend)
    assert caught.value.code == "enclave.layout.work"


def test_a_manifest_that_cannot_be_read_is_an_error_whatever_the_libpal() -> None:
    with pytest.raises(MalformedError) as caught:
        read_with_libpals(b"[sgx", sig=None, libpals=(), spend=Work().spend)
    assert caught.value.code == "enclave.manifest.syntax"


def test_one_with_another_size_in_memory_is_another() -> None:
    grown = Elf(segments=(SEGMENTS[0], replace(SEGMENTS[1], memory=9000)), entry=0x40).build()
    assert matches(choose(grown)) is False
