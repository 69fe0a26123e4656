import posixpath
from collections.abc import Iterator
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.enclave.examine import examine
from bastide.enclave.layers import DEFAULT_LIMITS, unpacked
from bastide.enclave.overlay import Overlay
from bastide.enclave.tar import EntryType, TarReader
from bastide.errors import MalformedError
from support.images import Member, packed, tar
from support.sgx_values import sigstruct

NAMES = st.sampled_from(["a", "b", "c", "a/b", "a/c", "a/b/c", "b/a"])
CONTENTS = st.binary(max_size=1500)
SIGNED = sigstruct().build()


def pieces(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


@given(st.lists(st.tuples(NAMES, CONTENTS), max_size=6), st.integers(1, 3000))
def test_a_tar_reads_back_whatever_the_pieces(files: list[tuple[str, bytes]], size: int) -> None:
    raw = tar(*(Member(name, content) for name, content in files))
    reader = TarReader(pieces(raw, size))
    read = [(entry.name, b"".join(reader.content())) for entry in reader.entries()]
    assert read == files


@given(st.binary(max_size=1600) | st.just(tar(Member("a", b"x" * 600))), st.integers(0, 3000), st.binary(max_size=5))
def test_any_bytes_are_a_tar_or_malformed(raw: bytes, at: int, change: bytes) -> None:
    reader = TarReader([raw[:at] + change + raw[at + len(change) :]])
    with suppress(MalformedError):
        for _ in reader.entries():
            for _ in reader.content():
                pass


@settings(max_examples=60)
@given(CONTENTS, st.sampled_from(["gzip", "zstd", "plain"]), st.integers(0, 200), st.binary(max_size=3))
def test_any_change_to_a_packed_layer_unpacks_or_is_malformed(
    content: bytes, compression: str, at: int, change: bytes
) -> None:
    raw = packed(tar(Member("a", content)), compression)
    assert b"".join(unpacked(pieces(raw, 100), "x")) == tar(Member("a", content))
    with suppress(MalformedError):
        for _ in unpacked([raw[:at] + change + raw[at + len(change) :]], "x"):
            pass


@given(st.binary(max_size=3000), st.binary(max_size=3000), st.integers(1, 4000))
def test_a_signature_is_found_between_any_bytes(before: bytes, after: bytes, size: int) -> None:
    raw = before + SIGNED + after
    finding = examine("file", len(raw), pieces(raw, size), DEFAULT_LIMITS)
    assert finding is not None or before.startswith((b"\x7fELF", b"ECREATE\0"))
    if finding is not None:
        assert len(before) in [one.offset for one in finding.signatures]


class Model:
    """The tree that layers give, path by path, without links: the plain way."""

    def __init__(self) -> None:
        self.lower: dict[str, int] = {}
        self.upper: dict[str, int] = {}

    def next_layer(self) -> None:
        self.lower.update(self.upper)
        self.upper = {}

    def put(self, path: str, mark: int) -> None:
        for tree in (self.lower, self.upper):
            for known in list(tree):
                if known == path or known.startswith(f"{path}/") or path.startswith(f"{known}/"):
                    del tree[known]
        self.upper[path] = mark

    def hide(self, path: str) -> None:
        for known in list(self.lower):
            if known == path or known.startswith(f"{path}/"):
                del self.lower[known]


STEPS = st.lists(st.tuples(st.sampled_from(["put", "hide", "opaque", "layer"]), NAMES), max_size=25)


@given(STEPS)
def test_layers_give_the_tree_that_a_plain_model_gives(steps: list[tuple[str, str]]) -> None:
    overlay, model = Overlay[int](), Model()
    overlay.next_layer()
    for number, (step, path) in enumerate(steps):
        if step == "layer":
            overlay.next_layer()
            model.next_layer()
        elif step == "put":
            overlay.put(path, number)
            model.put(path, number)
        elif step == "hide":
            overlay.put(posixpath.join(posixpath.dirname(path), f".wh.{posixpath.basename(path)}"))
            model.hide(path)
        else:
            overlay.put(f"{path}/.wh..wh..opq")
            model.lower = {known: mark for known, mark in model.lower.items() if not known.startswith(f"{path}/")}
    assert dict(overlay.marks()) == {**model.lower, **model.upper}


LINKS = st.lists(
    st.tuples(
        st.sampled_from(EntryType),
        st.text("ab./", max_size=8),
        st.text("ab./", max_size=8),
    ),
    max_size=20,
)


@given(LINKS)
def test_no_names_or_links_lead_out_of_the_root(entries: list[tuple[EntryType, str, str]]) -> None:
    overlay = Overlay[int]()
    overlay.next_layer()
    for kind, name, target in entries:
        with suppress(MalformedError):
            if kind is EntryType.SYMLINK:
                overlay.symlink(name, target)
            elif kind is EntryType.HARD_LINK:
                overlay.hard_link(name, target)
            elif kind is EntryType.DIRECTORY:
                overlay.directory(name)
            else:
                overlay.put(name, 1)
    for path, _ in overlay.marks():
        assert posixpath.normpath(f"/{path}") == f"/{path}"
        assert ".." not in path.split("/")
