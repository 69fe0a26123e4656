"""Layers that runtimes unpack in other ways than one could think: no enclave of theirs may stay unseen."""

import tarfile
from pathlib import Path

import pytest

from bastide.enclave.find import find
from bastide.enclave.tar import TarReader
from bastide.errors import MalformedError
from support.enclave_files import signed_intel_enclave
from support.gramine_files import manifest_text, signature
from support.images import Member, layout, tar

ENCLAVE = signed_intel_enclave()
REAL = (Member("real/e.so", ENCLAVE), Member("link", symlink="real"))


def paths(folder: Path, *layers: bytes) -> list[str]:
    return [one.path for one in find(layout(layers, compression="plain").write(folder))]


def block(name: bytes, kind: bytes, size: int = 0, *, magic: bytes = b"ustar\x0000", **fields: bytes) -> bytes:
    """A header; ``fields`` by offset, ``at345=b"..."``."""
    raw = bytearray(512)
    raw[: len(name)] = name
    raw[124:136] = b"%011o\0" % size
    raw[156:157] = kind
    raw[257 : 257 + len(magic)] = magic
    for place, value in fields.items():
        at = int(place.removeprefix("at"))
        raw[at : at + len(value)] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def extension(kind: bytes, content: bytes, name: bytes = b"x") -> bytes:
    return block(name, kind, len(content)) + content + bytes(-len(content) % 512)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    return f"{len(text) + (1 if len(text) < 9 else 2)}{text}".encode()


@pytest.mark.parametrize(
    "above",
    [
        (Member("link/e.so", b"harmless"),),
        (Member("link/.wh.e.so"),),
        (Member("link/.wh..wh..opq"),),
        (Member("link/e.so", symlink="/etc/hosts"),),
        (Member("link/e.so/"),),
    ],
)
def test_what_goes_through_a_link_of_a_lower_layer_hides_nothing_where_layers_lie_beside_each_other(
    tmp_path: Path, above: tuple[Member, ...]
) -> None:
    assert paths(tmp_path, tar(*REAL), tar(*above)) == ["/real/e.so"]


def test_what_goes_through_a_link_of_its_own_layer_replaces_what_is_there(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(*REAL, Member("link/e.so", b"harmless"))) == []
    (tmp_path / "two").mkdir()
    assert paths(tmp_path / "two", tar(*REAL), tar(REAL[1], Member("link/e.so", b"harmless"))) == []


def test_an_enclave_that_both_trees_show_is_told_of_once(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("link", symlink="real")), tar(Member("link/e.so", ENCLAVE))) == ["/real/e.so"]


def test_a_later_layer_does_not_hide_what_an_unfollowed_link_put_elsewhere(tmp_path: Path) -> None:
    layers = (
        tar(Member("link", symlink="real")),
        tar(Member("link/e.so", ENCLAVE)),
        tar(Member("real/e.so", b"harmless")),
    )
    assert paths(tmp_path, *layers) == ["/link/e.so"]


@pytest.mark.parametrize(
    "odd",
    [
        Member(".wh.a", symlink="real"),
        Member(".wh..wh.a", symlink="real"),
        Member(".wh.a", hard_link="link"),
        Member(".wh..wh.a", hard_link="link"),
    ],
)
def test_a_link_by_the_name_of_a_whiteout_is_none(tmp_path: Path, odd: Member) -> None:
    through = Member(f"{odd.name}/e.so", b"harmless")
    assert paths(tmp_path, tar(*REAL, odd, through)) == ["/real/e.so"]


def test_a_folder_by_the_name_of_a_whiteout_hides_what_is_below(tmp_path: Path) -> None:
    assert paths(tmp_path, tar(Member("e.so", ENCLAVE)), tar(Member(".wh.e.so/"))) == []


def test_what_aufs_keeps_for_hard_links_is_told_of_for_runtimes_find_it_by_its_last_part(tmp_path: Path) -> None:
    members = (Member(".wh..wh.plnk/a/1.2", ENCLAVE), Member("e.so", hard_link=".wh..wh.plnk/b/1.2"))
    assert paths(tmp_path, tar(*members)) == ["/.wh..wh.plnk/a/1.2"]


def _refusal(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        list(TarReader([raw]).entries())
    return caught.value.code


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        # Go takes the last pax header alone, other readers both.
        (extension(b"x", record("path", "a")) + extension(b"x", record("uid", "1")), "tar.pax"),
        (extension(b"L", b"a\0") + extension(b"L", b"b\0"), "tar.pax"),
        # Go takes the GNU name whichever comes last.
        (extension(b"L", b"a\0") + extension(b"x", record("path", "b")), "tar.pax"),
        (extension(b"x", record("linkpath", "b")) + extension(b"K", b"a\0"), "tar.pax"),
        # Go forgets what stands before a global header.
        (extension(b"x", record("path", "a")) + extension(b"g", record("comment", "c")), "tar.pax"),
        (extension(b"g", record("path", "a")), "tar.pax"),
    ],
)
def test_extended_headers_that_readers_join_differently_are_refused(raw: bytes, code: str) -> None:
    assert _refusal(raw + block(b"b", b"0")) == code


def test_long_name_and_long_link_go_together() -> None:
    raw = extension(b"L", b"name\0") + extension(b"K", b"target\0") + block(b"n", b"2")
    (entry,) = TarReader([raw]).entries()
    assert (entry.name, entry.link) == ("name", "target")


def test_a_file_with_content_by_the_name_of_a_folder_is_refused() -> None:
    """To Go it is a file, and what would be headers to us is its content."""
    inner = extension(b"L", b"a\0" + ENCLAVE) + block(b"b", b"0")
    assert _refusal(block(b"app/e.so/", b"0", len(inner)) + inner) == "tar.type"
    assert [one.type.value for one in TarReader([block(b"app/", b"\0", 0)]).entries()] == ["directory"]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (block(b"n", b"0", at345=b"p"), "p/n"),
        (block(b"n", b"0", at345=b"p" * 131, at476=b"00000000000", at508=b"tar\0"), "p" * 131 + "/n"),
        (block(b"n", b"0", magic=b"ustar  \0", at345=b"00000000000\0"), "n"),
        (block(b"n", b"0", magic=b"ustar  \0", at345=b"p"), "p/n"),
        (block(b"n", b"0", magic=b"ustar  \0", at345=b"p\xc3\xa4"), "n"),
        (block(b"n", b"0", magic=b"", at345=b"p"), "n"),
    ],
)
def test_the_prefix_of_a_name_is_read_as_go_reads_it(raw: bytes, name: str) -> None:
    assert [one.name for one in TarReader([raw]).entries()] == [name]


@pytest.mark.parametrize("name", [b"link", b"real/e.so", b".wh.link"])
def test_a_global_header_in_the_place_of_something_is_refused(tmp_path: Path, name: bytes) -> None:
    """Some runtimes remove what has its name, others pass it over."""
    below = tar(*REAL).rstrip(b"\0")
    raw = below + bytes(-len(below) % 512) + extension(b"g", record("comment", "c"), name) + bytes(1024)
    with pytest.raises(MalformedError) as caught:
        paths(tmp_path, raw)
    assert caught.value.code == "enclave.layer.path"


def test_a_global_header_as_git_writes_it_is_passed_over(tmp_path: Path) -> None:
    raw = extension(b"g", record("comment", "c"), b"pax_global_header") + tar(*REAL, form=tarfile.PAX_FORMAT)
    assert paths(tmp_path, raw) == ["/real/e.so"]


def test_a_signature_that_two_enclaves_could_have_belongs_to_neither(tmp_path: Path) -> None:
    text = manifest_text()
    members = (
        Member("a.manifest.sgx", text),
        Member("a.sgxs", b"ECREATE\0" + bytes(100)),
        Member("a.sig", signature(text)),
    )
    found = list(find(layout([tar(*members)]).write(tmp_path)))
    assert [(one.path, len(one.signatures)) for one in found] == [
        ("/a.manifest.sgx", 0),
        ("/a.sgxs", 0),
        ("/a.sig", 1),
    ]
