"""Whatever bytes come: a clear refusal or a value, in bounded time and memory."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.enclave.elf import ElfImage
from bastide.enclave.gramine import Manifest
from bastide.enclave.inspect import inspect
from bastide.enclave.layout import MAX_HASHED, EnclaveLayout, PageRun
from bastide.enclave.locate import header_places, locate
from bastide.enclave.read import read_enclave
from bastide.errors import MalformedError
from bastide.sgx.secs import SecInfo
from support.enclave_files import PAGE, REG_RW, Blob, Elf, OeFile, PlainMeasurer, Sec, Seg, intel_enclave
from support.sgx_values import sigstruct

GOOD = (
    intel_enclave(Blob(sigstruct=sigstruct(), patches=((0x40, b"patch"),)), Blob(version=(1, 3))),
    intel_enclave(Blob(version=(12, 1), elrange=(PAGE, 0, 0x100000)), Blob(version=(3, 1))),
    OeFile(sigstruct=sigstruct()).build(),
    bytes(PlainMeasurer(1 << 20).pages(0, REG_RW, b"x").bare(0x4000, REG_RW, 3).stream),
)
INTERESTING = st.sampled_from(
    [0, 1, 7, 24, 31, 32, 0x1000, 0xFFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 47, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
)


def survives(raw: bytes, name: str = "", libpal: bytes | None = None) -> None:
    locate(raw, name)
    try:
        enclave = read_enclave(raw, name, libpal=libpal)
    except MalformedError:
        return
    inspect(enclave)
    for block in enclave.blocks:
        assert block.layout is None or block.layout.hashed <= MAX_HASHED


@settings(max_examples=400, deadline=None)
@given(good=st.sampled_from(GOOD), data=st.data())
def test_changed_numbers_anywhere_give_a_value_or_a_clear_refusal(good: bytes, data: st.DataObject) -> None:
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        at = data.draw(st.integers(0, len(raw) - 8))
        raw[at : at + size] = (data.draw(INTERESTING) & (1 << 8 * size) - 1).to_bytes(size, "little")
    survives(bytes(raw))


def places(raw: bytes) -> list[int]:
    """Where sizes and places stand: most bytes of a file are content."""
    marks = [raw.find(mark) for mark in (b"sgx_metadata\0", b"\xa8\x07\0\0") if mark in raw]
    return [0, 64, len(raw) - 700, *marks, *(mark + 1885 for mark in marks)]


@settings(max_examples=300, deadline=None)
@given(
    target=st.sampled_from([(index, place) for index, raw in enumerate(GOOD) for place in places(raw)]),
    shift=st.integers(0, 600),
    value=INTERESTING,
)
def test_changed_numbers_in_the_tables_give_a_value_or_a_clear_refusal(
    target: tuple[int, int], shift: int, value: int
) -> None:
    good, at = GOOD[target[0]], max(0, target[1]) + shift
    survives(good[:at] + value.to_bytes(8, "little") + good[at + 8 :])


@settings(max_examples=100, deadline=None)
@given(good=st.sampled_from(GOOD), data=st.data())
def test_truncated_files_give_a_value_or_a_clear_refusal(good: bytes, data: st.DataObject) -> None:
    survives(good[: data.draw(st.integers(0, len(good)))])


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=3000), lead=st.sampled_from([b"", b"\x7fELF\2\1\1", b"ECREATE\0", b"\6\0\0\0\xe1\0\0\0"]))
def test_any_bytes_give_a_value_or_a_clear_refusal(raw: bytes, lead: bytes) -> None:
    survives(lead + raw)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="[]{}=.,\"'#\nsgx_threadsnclave size0123456789MG", max_size=300))
def test_any_text_is_a_manifest_or_a_clear_refusal(text: str) -> None:
    survives(text.encode(), "x.manifest.sgx", libpal=Elf(segments=(Seg(address=0, data=b"pal"),)).build())
    survives(b"[sgx]\n" + text.encode(), "x.manifest.sgx")


@settings(max_examples=100, deadline=None)
@given(
    segments=st.lists(
        st.builds(
            Seg,
            address=st.integers(0, 1 << 20),
            data=st.binary(max_size=9000),
            memory=st.integers(0, 1 << 22),
            flags=st.integers(0, 7),
            type=st.sampled_from([1, 1, 1, 2, 7]),
        ),
        max_size=4,
    )
)
def test_any_segments_are_laid_out_or_refused(segments: list[Seg]) -> None:
    survives(intel_enclave(Blob(size=1 << 24, table=()), segments=tuple(segments)))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_layout_measures_like_its_pages_one_by_one(data: st.DataObject) -> None:
    runs, expected, offset = [], PlainMeasurer(1 << 32), data.draw(st.integers(0, 1 << 18)) * PAGE
    for _ in range(data.draw(st.integers(0, 4))):
        count = data.draw(st.integers(1, 70))
        if data.draw(st.booleans()):
            content = data.draw(st.binary(min_size=1, max_size=8)).ljust(PAGE, b"\1")
            runs.append(PageRun(offset=offset, secinfo=SecInfo.of_flags(REG_RW), content=content, copies=count))
            expected.pages(offset, REG_RW, content, count)
        else:
            runs.append(PageRun(offset=offset, secinfo=SecInfo.of_flags(REG_RW), zero_pages=count))
            expected.bare(offset, REG_RW, count)
        offset += (count + data.draw(st.integers(0, 3))) * PAGE
    layout = EnclaveLayout(size=1 << 32, ssa_frame_size=1, runs=tuple(runs))
    assert layout.measure().digest() == expected.digest()
    assert layout.hashed == len(expected.stream)


HEADER = sigstruct().build()[:12]
PIECES = st.sampled_from([HEADER, HEADER[:4], HEADER[4:], b"\xe1", b"\xe1" * 40, HEADER[:11], b"\0", b"x" * 50])


@given(parts=st.lists(PIECES, max_size=40))
def test_headers_are_found_wherever_they_stand_however_dense_their_rare_byte(parts: list[bytes]) -> None:
    content = b"".join(parts)
    places = [at for at in range(len(content)) if content[at : at + 12] == HEADER]
    assert list(header_places(content)) == places


def test_a_million_sections_are_refused() -> None:
    # The count does not fit its field: such files say 0 there and put the number into the first section.
    raw = bytearray(Elf(sections=(Sec(name=".note.sgxmeta", data=b"x"),)).build())
    struct.pack_into("<H", raw, 60, 0)
    raw[-192:-128] = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1_000_000, 0, 0, 0, 0)
    with pytest.raises(MalformedError) as caught:
        ElfImage.parse(bytes(raw))
    assert caught.value.code == "elf.count"


@pytest.mark.parametrize(
    "text",
    [b"a." * 500_000 + b"a=1", b"[" + b"a." * 200_000 + b"a]", b"x=" + b"[" * 100_000, b"x=" + b"{a=" * 50_000],
    ids=["deep key", "deep table", "brackets", "braces"],
)
def test_deep_keys_and_brackets_do_not_exhaust_anything(text: bytes) -> None:
    with pytest.raises(MalformedError):
        Manifest.parse(text)
