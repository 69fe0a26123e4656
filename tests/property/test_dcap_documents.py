"""The reader of compact documents says what the reader of any document says, or leaves it to that one."""

import json
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bastide.dcap import document
from support.quotes import good_world, td_world

_TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\{}[]:,\x00\x1f\x7f\u2028é'), max_size=6)
_NUMBERS = (
    st.integers() | st.sampled_from((0, -1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400)) | st.floats()
)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=10,
)
_REAL = (
    *(world.collateral.tcb_info for world in (good_world(), td_world())),
    *(world.collateral.qe_identity for world in (good_world(), td_world())),
)


def agree(raw: bytes) -> bool:
    """Whether both readers agree; and whether the quick one answered."""
    quick = document._read_compact(raw)
    if quick:
        assert quick == document._read_any(raw)
        assert [list(value) for value, _ in quick.values() if isinstance(value, dict)] == [
            list(value) for value, _ in document._read_any(raw).values() if isinstance(value, dict)
        ]
    with suppress(ValueError, RecursionError):
        assert document.read_members(raw) == document._read_any(raw)
    return bool(quick)


def test_documents_as_intel_serves_them_are_read_by_the_quick_reader() -> None:
    assert all(agree(raw) for raw in _REAL)


@settings(max_examples=200, deadline=None)
@given(tree=st.dictionaries(_TEXT, _JSON, max_size=4), ascii_only=st.booleans(), compact=st.booleans())
def test_readers_agree_on_any_json(tree: dict[str, object], ascii_only: bool, compact: bool) -> None:
    separators = (",", ":") if compact else (", ", ": ")
    agree(json.dumps(tree, ensure_ascii=ascii_only, separators=separators).encode())


@settings(max_examples=200, deadline=None)
@given(
    raw=st.sampled_from(_REAL),
    at=st.integers(0, 1 << 14),
    length=st.integers(0, 3),
    piece=st.sampled_from(
        [b"", b"0", b".0", b"-0", b"e1", b" ", b'"', b"\\", b"{}", b"[", b"}", b",", b":", b"\xff", b"1"]
    ),
)
@example(raw=b'{"a":{"b":1,"b":1}}', at=0, length=0, piece=b"")
@example(raw=b'{"a":1,"a":1}', at=0, length=0, piece=b"")
@example(raw=b'{"a":{"b":[{"c":1,"c":1}]}}', at=0, length=0, piece=b"")
@example(raw=b'{"a":1.0,"b":1e2,"c":-0}', at=0, length=0, piece=b"")
@example(raw=b'{"a":"\xed\xa0\x80"}', at=0, length=0, piece=b"")
def test_readers_agree_on_documents_with_something_else_in_them(raw: bytes, at: int, length: int, piece: bytes) -> None:
    at %= len(raw) + 1
    agree(raw[:at] + piece + raw[at + length :])


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=60) | st.text('{}[]":,01.e- a\\', max_size=30).map(str.encode))
def test_readers_agree_on_any_bytes(raw: bytes) -> None:
    agree(raw)
