import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.enclave.examine import Finding, PartFinding, examine
from bastide.enclave.find import find, read_found
from bastide.enclave.image import EnclaveKind
from bastide.enclave.layers import DEFAULT_LIMITS
from bastide.enclave.libpal import LARGEST_LIBPAL, MOST_LIBPALS
from bastide.errors import ConfigError, MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE
from bastide.units import MIB
from support.enclave_files import SEGMENTS, Elf, OeFile, Sec, intel_enclave, signed_intel_enclave
from support.gramine_files import LIBPAL, manifest_text, signature
from support.images import Member, layout, tar
from support.sgx_values import sigstruct
from support.vectors import vectors

RAW = sigstruct().build()
INVALID = replace(sigstruct(), signature=bytes(384)).build()


def pieces_of(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


def kind_of(name: str, raw: bytes) -> EnclaveKind | None:
    finding = examine(name, len(raw), pieces_of(raw, 1000), DEFAULT_LIMITS)
    return finding.kind if isinstance(finding, Finding) else None


@pytest.mark.parametrize(
    ("name", "raw", "kind"),
    [
        ("a.so", signed_intel_enclave(), EnclaveKind.INTEL_SDK),
        ("a.so", intel_enclave(), EnclaveKind.INTEL_SDK),
        ("a", OeFile().build(), EnclaveKind.OPEN_ENCLAVE),
        ("a", Elf(segments=SEGMENTS, sections=(Sec(name=".ego.bundle", data=b"x"),)).build(), EnclaveKind.EGO),
        ("a.sig", RAW, EnclaveKind.SIGSTRUCT),
        ("a.sig", INVALID, EnclaveKind.SIGSTRUCT),
        ("a.manifest.sgx", b"[loader]\n", EnclaveKind.GRAMINE),
        ("a.sgxs", b"ECREATE\0" + bytes(56), EnclaveKind.FORTANIX),
        ("a.bin", b"junk" + RAW + b"junk", EnclaveKind.UNKNOWN),
        ("a.bin", b"junk" + INVALID, None),
        ("a.txt", b"text" * 100, None),
        ("empty", b"", None),
        ("a.so", Elf(segments=SEGMENTS).build(), None),
    ],
)
def test_a_file_is_known_by_what_is_in_it(name: str, raw: bytes, kind: EnclaveKind | None) -> None:
    assert kind_of(name, raw) is kind


@pytest.mark.parametrize("piece", [1, 7, 1807, 1808, 5000, MIB])
def test_a_signature_in_a_large_file_is_seen_wherever_pieces_end(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 100)
    raw = b"x" * 3001 + RAW + b"\x06\0\0\0" * 100 + RAW + b"y" * 77
    finding = examine("a.bin", len(raw), pieces_of(raw, piece), DEFAULT_LIMITS)
    assert isinstance(finding, Finding)
    assert [one.offset for one in finding.signatures] == [3001, 3001 + SIGSTRUCT_SIZE + 400]
    assert all(one.valid for one in finding.signatures)


@pytest.mark.parametrize("piece", [1, 100, MIB])
def test_large_files_are_known_like_small_ones(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 100)
    for raw in (signed_intel_enclave(), OeFile(sigstruct=sigstruct()).build(), b"ECREATE\0" + bytes(200)):
        large = examine("a", len(raw), pieces_of(raw, piece), DEFAULT_LIMITS)
        monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 1 << 30)
        assert large == examine("a", len(raw), pieces_of(raw, piece), DEFAULT_LIMITS)
        monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 100)
    plain = Elf(segments=SEGMENTS).build()
    assert examine("a", len(plain), pieces_of(plain, piece), DEFAULT_LIMITS) is None
    scone = Elf(segments=SEGMENTS, sections=(Sec(name=".x", data=b"SCONE_HASH SCONE_HEAP SCONE_CAS_ADDR"),)).build()
    finding = examine("a", len(scone), pieces_of(scone, piece), DEFAULT_LIMITS)
    assert isinstance(finding, Finding)
    assert finding.kind is EnclaveKind.SCONE


def test_a_large_elf_file_that_cannot_be_read_is_still_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 100)
    raw = b"\x7fELF" + bytes(500) + RAW
    finding = examine("a", len(raw), pieces_of(raw, 400), DEFAULT_LIMITS)
    assert isinstance(finding, Finding)
    assert (finding.kind, finding.signatures[0].offset) == (EnclaveKind.UNKNOWN, 504)


def test_elf_files_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 100)
    with pytest.raises(MalformedError) as caught:
        examine("a", 2000, iter([b"\x7fELF" + bytes(1996)]), replace(DEFAULT_LIMITS, file=1999))
    assert caught.value.code == "enclave.find.file"


def test_a_file_of_nothing_but_signatures_is_refused() -> None:
    with pytest.raises(MalformedError) as caught:
        kind_of("many", RAW * 501)
    assert caught.value.code == "enclave.find.signatures"


def test_a_folder_is_searched_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "e.so").write_bytes(signed_intel_enclave())
    (tmp_path / "out.so").write_bytes(signed_intel_enclave())
    (tmp_path / "in" / "link.so").symlink_to(tmp_path / "out.so")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "in" / "pipe")
    (one,) = find(tmp_path / "in")
    assert one.path == str(tmp_path / "in" / "deep" / "e.so")
    assert one.digests == ()
    assert read_found(one) == signed_intel_enclave()


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as caught:
        list(find(tmp_path / "pipe"))
    assert caught.value.code == "file.unreadable"


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        list(find(tmp_path / "none"))
    assert (caught.value.code, caught.value.where) == ("file.unreadable", str(tmp_path / "none"))


def test_signatures_beside_are_joined_to_what_they_sign(tmp_path: Path) -> None:
    members = [
        Member("app/x.manifest.sgx", b"[loader]"),
        Member("app/x.sig", RAW),
        Member("b/y.sgxs", b"ECREATE\0" + bytes(56)),
        Member("b/other.sig", RAW),
    ]
    found = list(find(layout([tar(*members)]).write(tmp_path)))
    assert [(one.path, one.kind, one.signer is not None) for one in found] == [
        ("/app/x.manifest.sgx", EnclaveKind.GRAMINE, True),
        ("/b/other.sig", EnclaveKind.SIGSTRUCT, True),
        ("/b/y.sgxs", EnclaveKind.FORTANIX, False),
    ]


GRAMINE = (Member("app/x.manifest.sgx", manifest_text()), Member("app/x.sig", signature(manifest_text())))
OTHER_LIBPAL = Elf(segments=SEGMENTS, entry=0x48).build()


@pytest.mark.parametrize(
    ("layers", "paths"),
    [
        ([GRAMINE], []),
        ([(*GRAMINE, Member("lib/libpal.so", LIBPAL))], ["/lib/libpal.so"]),
        ([(Member("lib/libpal.so", LIBPAL),), GRAMINE], ["/lib/libpal.so"]),
        ([(Member("lib/libpal.so", LIBPAL),), (*GRAMINE, Member("lib/.wh.libpal.so"))], []),
        ([(Member("lib/libpal.so", LIBPAL),), (*GRAMINE, Member("lib/.wh..wh..opq"))], []),
        ([(Member("lib/libpal.so", LIBPAL),), (*GRAMINE, Member("lib/libpal.so", b"text" * 99))], []),
        ([(*GRAMINE, Member("b/libpal.so", LIBPAL), Member("a/libpal.so", LIBPAL))], ["/a/libpal.so"]),
        ([(*GRAMINE, Member("b/libpal.so", LIBPAL), Member("a/x", hard_link="b/libpal.so"))], ["/a/x"]),
        (
            [(*GRAMINE, Member("sgx/libpal.so", LIBPAL), Member("direct/libpal.so", OTHER_LIBPAL))],
            ["/direct/libpal.so", "/sgx/libpal.so"],
        ),
        ([(*GRAMINE, Member("lib/libpal.so.1", LIBPAL), Member("lib/xlibpal.so", LIBPAL))], []),
    ],
)
def test_a_gramine_enclave_knows_the_different_libpals_of_the_final_tree(
    layers: list[tuple[Member, ...]], paths: list[str], tmp_path: Path
) -> None:
    (one,) = find(layout([tar(*members) for members in layers]).write(tmp_path))
    assert [libpal.path for libpal in one.libpals] == paths
    assert [read_found(libpal) for libpal in one.libpals] == [LIBPAL, OTHER_LIBPAL][len(paths) - 1 :: -1][: len(paths)]


def test_only_gramine_has_libpals_and_a_libpal_alone_is_no_enclave(tmp_path: Path) -> None:
    (tmp_path / "libpal.so").write_bytes(LIBPAL)
    assert list(find(tmp_path)) == []
    (tmp_path / "e.so").write_bytes(signed_intel_enclave())
    (tmp_path / "x.manifest.sgx").write_bytes(manifest_text())
    found = {one.kind: one.libpals for one in find(tmp_path)}
    assert found[EnclaveKind.INTEL_SDK] == ()
    assert [one.path for one in found[EnclaveKind.GRAMINE]] == [str(tmp_path / "libpal.so")]


def test_an_enclave_under_the_name_of_libpal_is_still_an_enclave() -> None:
    assert kind_of("lib/libpal.so", signed_intel_enclave()) is EnclaveKind.INTEL_SDK
    assert kind_of("lib/libpal.so", b"junk" + RAW) is EnclaveKind.UNKNOWN


def test_a_libpal_is_read_up_to_its_limit_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.examine._IN_MEMORY", 100)
    for size, seen in ((LARGEST_LIBPAL, True), (LARGEST_LIBPAL + 1, False)):
        raw = LIBPAL.ljust(size, b"\0")
        finding = examine("libpal.so", size, pieces_of(raw, MIB), DEFAULT_LIMITS)
        assert isinstance(finding, PartFinding) is seen
    assert examine("libpal.so", 100, iter([b"x" * 100]), DEFAULT_LIMITS) is None


def test_no_more_different_libpals_are_kept_than_show_that_there_are_too_many(tmp_path: Path) -> None:
    libpals = [Member(f"{number}/libpal.so", LIBPAL + bytes([number])) for number in range(MOST_LIBPALS + 3)]
    (one,) = find(layout([tar(*GRAMINE, *libpals)]).write(tmp_path))
    assert len(one.libpals) == MOST_LIBPALS + 1


def test_very_many_libpals_are_counted_like_enclaves(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "libpal.so").write_bytes(LIBPAL)
    with pytest.raises(MalformedError) as caught:
        list(find(tmp_path, limits=replace(DEFAULT_LIMITS, enclaves=4)))
    assert caught.value.code == "enclave.find.enclaves"


def test_the_signer_is_that_of_a_good_signature_only(tmp_path: Path) -> None:
    (tmp_path / "a.sig").write_bytes(INVALID)
    (one,) = find(tmp_path / "a.sig")
    assert (one.signer, one.signatures[0].valid) == (None, False)


def test_progress_counts_the_bytes_that_were_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5000))
    told: list[int] = []
    list(find(tmp_path, progress=told.append))
    assert sum(told) == 5000


def test_an_enclave_too_large_to_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.sig").write_bytes(RAW)
    (one,) = find(tmp_path / "a.sig")
    monkeypatch.setattr("bastide.enclave.find.LARGEST_ENCLAVE", 1000)
    with pytest.raises(MalformedError) as caught:
        read_found(one)
    assert caught.value.code == "enclave.find.size"


def test_every_public_enclave_is_found_in_an_image_of_them(tmp_path: Path) -> None:
    folder = vectors("enclave")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    members = [Member(f"opt/{path.relative_to(folder)}", path.read_bytes()) for path in files]
    found = {one.path: one for one in find(layout([tar(*members)], compression="zstd").write(tmp_path))}
    wanted = {f"/opt/{path.relative_to(folder)}" for path in files if path.parent.name in ("css", "oe", "intel-sdk")}
    assert wanted <= found.keys()
    assert all(found[path].signer for path in wanted)
    assert read_found(found["/opt/sgxs/test_enclave.sgxs"]) == (folder / "sgxs/test_enclave.sgxs").read_bytes()
    assert found["/opt/sgxs/test_enclave.sgxs"].signer is not None
