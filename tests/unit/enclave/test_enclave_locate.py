import os

import pytest

from bastide.enclave import locate as module
from bastide.enclave.image import NOTES, EnclaveKind
from bastide.enclave.locate import carve, header_places, locate
from support.enclave_files import Elf, OeFile, Sec, intel_enclave, signed_intel_enclave
from support.sgx_values import sigstruct

SIGNATURE = sigstruct().build()
NOTHING = Elf(sections=(Sec(name=".text", data=b"x"),)).build()


def elf(*names: str, data: bytes = b"") -> bytes:
    return Elf(sections=(*(Sec(name=name) for name in names), Sec(name=".data", data=data))).build()


@pytest.mark.parametrize(
    ("raw", "name", "kind"),
    [
        (intel_enclave(), "", EnclaveKind.INTEL_SDK),
        (elf(".note.sgxmeta", ".builtin_config"), "", EnclaveKind.OCCLUM),
        (OeFile().build(), "", EnclaveKind.OPEN_ENCLAVE),
        (OeFile(info_size=2064).build(), "", EnclaveKind.EGO),
        (elf(".ego.bundle"), "", EnclaveKind.EGO),
        (elf(".note.x86_64-fortanix-unknown-sgx"), "", EnclaveKind.FORTANIX_ELF),
        (b"ECREATE\0" + bytes(56), "", EnclaveKind.FORTANIX),
        (b"anything", "/app/x.manifest.sgx", EnclaveKind.GRAMINE),
        (elf(data=b"SCONE_HASH SCONE_HEAP SCONE_CAS_ADDR"), "", EnclaveKind.SCONE),
        (SIGNATURE, "x.sig", EnclaveKind.SIGSTRUCT),
        (b"?" + SIGNATURE, "", EnclaveKind.UNKNOWN),
        (elf(data=SIGNATURE), "", EnclaveKind.UNKNOWN),
        (b"\x7fELF" + bytes(60) + SIGNATURE, "", EnclaveKind.UNKNOWN),
    ],
)
def test_knows_each_kind(raw: bytes, name: str, kind: EnclaveKind) -> None:
    found = locate(raw, name)
    assert found is not None
    assert found.kind is kind
    assert found.note == NOTES[kind]


@pytest.mark.parametrize("raw", [b"", b"x", b"\x7fELF", NOTHING, elf(data=b"SCONE_HEAP"), SIGNATURE[:-1]])
def test_other_files_are_no_enclaves(raw: bytes) -> None:
    assert locate(raw) is None


def test_says_where_signatures_lie() -> None:
    raw = signed_intel_enclave()
    found = locate(raw)
    assert found is not None
    (offset,) = found.sigstruct_offsets
    assert raw[offset : offset + 12] == SIGNATURE[:12]


@pytest.mark.parametrize("lead", [0, 1, 60, 64, 99, 100, 101, 110, 200])
def test_carves_signatures_on_the_border_of_windows_once(monkeypatch: pytest.MonkeyPatch, lead: int) -> None:
    monkeypatch.setattr(module, "_WINDOW", 100)
    assert list(carve(bytes(lead) + SIGNATURE + b"\6" * 30 + SIGNATURE)) == [lead, lead + 1808 + 30]


def test_carving_skips_headers_without_a_signature() -> None:
    broken = SIGNATURE[:44] + b"\1" + SIGNATURE[45:]
    assert list(carve(SIGNATURE[:500] + broken + SIGNATURE)) == [500 + 1808]


def test_carving_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIGSTRUCTS", 2)
    assert len(list(carve(SIGNATURE * 5))) == 2


def test_a_mapped_file_and_a_view_are_taken_too() -> None:
    assert list(carve(memoryview(bytearray(b"ab" + SIGNATURE)))) == [2]


def test_random_bytes_are_no_enclave() -> None:
    assert locate(os.urandom(100_000)) is None


HEADER = SIGNATURE[:12]


def test_headers_behind_so_many_rare_bytes_that_another_search_takes_over_are_found_once() -> None:
    content = HEADER + b"\xe1" * 5000 + HEADER + HEADER
    assert list(header_places(content)) == [0, 5012, 5024]


def test_a_part_of_a_file_is_searched_like_a_whole_one() -> None:
    raw = b"xx" + SIGNATURE + b"yy"
    assert list(carve(raw)) == [2]
    assert list(carve(memoryview(raw)[1:])) == [1]
    assert list(carve(memoryview(raw)[:-3])) == []
