import mmap
from datetime import date
from pathlib import Path

import pytest

from bastide.enclave.image import EnclaveKind
from bastide.enclave.locate import MAX_SIGSTRUCTS
from bastide.enclave.read import read_enclave
from bastide.enclave.sign import Terms, plan_image
from bastide.errors import MalformedError
from support.enclave_files import (
    REG_RW,
    SEGMENTS,
    Blob,
    Elf,
    OeFile,
    PlainMeasurer,
    Sec,
    expected_intel,
    intel_enclave,
    note,
    signed_intel_enclave,
)
from support.sgx_values import sigstruct

STREAM = bytes(PlainMeasurer(1 << 20).bare(0, REG_RW).stream)
MANIFEST = b'[sgx]\nenclave_size = "16M"\ndebug = true\n'


def test_reads_each_kind_into_blocks() -> None:
    assert [block.name for block in read_enclave(intel_enclave()).blocks] == ["metadata 2.4"]
    assert [block.name for block in read_enclave(OeFile().build()).blocks] == ["oeinfo"]
    assert [block.name for block in read_enclave(STREAM).blocks] == ["sgxs"]


def test_takes_the_signature_beside_a_stream() -> None:
    (block,) = read_enclave(STREAM, sig=sigstruct().build()).blocks
    assert block.sigstruct == sigstruct()
    assert block.sigstruct_offset is None


def test_reads_a_manifest_with_libpal_and_signature() -> None:
    libpal = Elf(segments=SEGMENTS).build()
    found = read_enclave(MANIFEST, "x.manifest.sgx", libpal=libpal, sig=sigstruct().build())
    assert found.kind is EnclaveKind.GRAMINE
    assert found.blocks[0].layout is not None
    assert found.blocks[0].sigstruct == sigstruct()
    assert found.insecure == ("sgx.debug = true",)


def test_a_manifest_without_libpal_has_no_layout() -> None:
    assert read_enclave(MANIFEST, "x.manifest.sgx").blocks[0].layout is None


def test_a_bare_signature_and_one_in_an_unknown_file_are_blocks_without_layout() -> None:
    raw = sigstruct().build()
    for image, offset in ((raw, 0), (b"??" + raw, 2)):
        (block,) = read_enclave(image).blocks
        assert (block.sigstruct_offset, block.sigstruct, block.layout) == (offset, sigstruct(), None)


def test_a_file_of_ego_says_what_is_not_possible() -> None:
    found = read_enclave(OeFile(info_size=2064, sigstruct=sigstruct()).build())
    assert found.kind is EnclaveKind.EGO
    assert "cannot be computed" in found.note
    assert found.blocks[0].sigstruct == sigstruct()


def test_a_mapped_file_is_read_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "enclave"
    path.write_bytes(intel_enclave())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (block,) = read_enclave(mapped).blocks
        assert block.layout is not None
        assert block.layout.measure().digest() == expected_intel().digest()


def test_refuses_what_is_no_enclave() -> None:
    with pytest.raises(MalformedError) as caught:
        read_enclave(b"hello")
    assert caught.value.code == "enclave.kind.unknown"


def other_loader(name: str) -> Sec:
    return Sec(name=name, type=7, data=note([Blob(sigstruct=sigstruct()).build()]))


@pytest.mark.parametrize(
    "raw",
    [
        OeFile(sections=(other_loader(".note.sgxmeta"),)).build(),
        OeFile(sections=(other_loader(".oeinfo"),)).build(),
        intel_enclave(sections=(other_loader(".note.sgxmeta"),)),
        intel_enclave(sections=(other_loader(".note.x86_64-fortanix-unknown-sgx"),)),
    ],
    ids=["two loaders", "oeinfo twice", "metadata twice", "program of Fortanix"],
)
def test_refuses_a_file_that_two_loaders_would_start_differently(raw: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        read_enclave(raw)
    assert caught.value.code == "enclave.kind.ambiguous"
    with pytest.raises(MalformedError) as caught:
        plan_image(raw, Terms(date=date(2026, 11, 23)))
    assert caught.value.code == "enclave.kind.ambiguous"


def test_refuses_a_file_whose_signatures_are_too_many_to_look_at_all() -> None:
    some = sigstruct().build()
    assert len(read_enclave(b"x" + some * (MAX_SIGSTRUCTS - 1)).blocks) == MAX_SIGSTRUCTS - 1
    with pytest.raises(MalformedError) as caught:
        read_enclave(b"x" + some * MAX_SIGSTRUCTS)
    assert caught.value.code == "enclave.kind.signatures"


def cut(raw: bytes) -> bytes:
    """The file without its end, where the section headers are."""
    return raw[:-10]


def test_a_damaged_elf_file_is_told_apart_from_what_is_no_enclave() -> None:
    with pytest.raises(MalformedError) as caught:
        read_enclave(cut(intel_enclave()))
    assert caught.value.code == "elf.range"
    with pytest.raises(MalformedError) as caught:
        read_enclave(Elf(segments=SEGMENTS).build())
    assert caught.value.code == "enclave.kind.unknown"


def test_signatures_in_a_damaged_elf_file_are_shown_and_why_nothing_else_is() -> None:
    found = read_enclave(cut(signed_intel_enclave()))
    assert (found.kind, len(found.blocks)) == (EnclaveKind.UNKNOWN, 1)
    assert "[elf.range]" in found.note
    assert "malformed" not in read_enclave(b"x" + sigstruct().build()).note
