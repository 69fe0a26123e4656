import struct
from dataclasses import replace

import pytest

from bastide.enclave.elf import ElfImage
from bastide.enclave.image import EnclaveBlock
from bastide.enclave.intel_sdk import blocks
from bastide.errors import MalformedError
from support.enclave_files import (
    HEAP_AT,
    PAGE,
    REG_RW,
    REG_RWX,
    REG_RX,
    SEGMENTS,
    TABLE,
    TCS_TEMPLATE,
    TEXT,
    THREAD,
    Blob,
    Elf,
    Line,
    PlainMeasurer,
    Repeat,
    Sec,
    Seg,
    expected_intel,
    intel_enclave,
    note,
    segment_pages,
    signed_intel_enclave,
    thread_pages,
)

SIZE = 0x100000


def read(raw: bytes) -> tuple[EnclaveBlock, ...]:
    return blocks(ElfImage.parse(raw))


def matches(raw: bytes, expected: PlainMeasurer) -> bool:
    (block,) = read(raw)
    assert block.layout is not None
    return block.layout.measure().digest() == expected.digest()


def code_of(*made: Blob, raw: bytes = b"") -> str:
    with pytest.raises(MalformedError) as caught:
        read(raw or intel_enclave(*made))
    return caught.value.code


def test_loads_segments_then_the_layout_table() -> None:
    assert matches(intel_enclave(), expected_intel())


def test_finds_the_signature_in_its_place() -> None:
    raw = signed_intel_enclave(isv_svn=9)
    (block,) = read(raw)
    assert block.sigstruct is not None
    assert block.sigstruct_offset is not None
    assert raw[block.sigstruct_offset : block.sigstruct_offset + 1808] == block.sigstruct.build()
    assert block.sigstruct.isv_svn == 9
    assert block.sigstruct.enclave_hash == expected_intel().digest()


def test_an_unsigned_file_has_no_signature() -> None:
    assert read(intel_enclave())[0].sigstruct is None


def test_patches_replace_bytes_of_the_file() -> None:
    # The first segment follows the headers; its place in the file is a whole page.
    blob = Blob(patches=((PAGE + 10, b"new bytes"), (60, b"\0\0")))
    segments = (replace(SEGMENTS[0], offset=PAGE), replace(SEGMENTS[1], offset=0x4100))
    expected = PlainMeasurer(SIZE).pages(0, REG_RX, TEXT[:10] + b"new bytes" + TEXT[19:])
    data = bytes(0x100) + SEGMENTS[1].data
    expected.pages(0x3000, REG_RW, data).pages(0x4000, REG_RW, b"").bare(HEAP_AT, REG_RW, 3)
    assert matches(intel_enclave(blob, segments=segments), thread_pages(expected))


def test_groups_repeat_the_entries_before_them() -> None:
    table = (*THREAD, Repeat(entries=3, times=2, step=0x10000), Line(id=1, attributes=1, rva=0xA0000))
    expected = segment_pages(PlainMeasurer(SIZE))
    for delta in (0, 0x10000, 0x20000):
        thread_pages(expected, delta)
    assert matches(intel_enclave(Blob(table=table)), expected.bare(0xA0000, REG_RW))


def test_entries_without_eadd_or_without_flags_are_not_loaded() -> None:
    table = (
        Line(id=10, attributes=0, pages=9, rva=0x90000, flags=0),
        Line(id=10, attributes=3, pages=9, rva=0x90000, flags=0),
        Line(id=17, attributes=0x48, pages=9, rva=0x90000),
        Line(id=1, attributes=1, pages=0, rva=0x90000),
    )
    assert matches(intel_enclave(Blob(table=table)), segment_pages(PlainMeasurer(SIZE)))


def test_zero_pages_with_eextend_are_measured() -> None:
    table = (Line(id=6, pages=2, rva=HEAP_AT),)
    expected = segment_pages(PlainMeasurer(SIZE)).pages(HEAP_AT, REG_RW, b"", 2)
    assert matches(intel_enclave(Blob(table=table)), expected)


def test_a_fill_without_eextend_is_not_measured() -> None:
    table = (Line(id=8, attributes=1, pages=2, rva=HEAP_AT, fill=7),)
    assert matches(intel_enclave(Blob(table=table)), segment_pages(PlainMeasurer(SIZE)).bare(HEAP_AT, REG_RW, 2))


def test_content_is_measured_and_followed_by_zero_pages() -> None:
    table = (Line(id=20, attributes=1, pages=4, rva=HEAP_AT, content=b"content" * 1000, flags=REG_RWX),)
    expected = segment_pages(PlainMeasurer(SIZE)).pages(HEAP_AT, REG_RWX, (b"content" * 1000).ljust(4 * PAGE, b"\0"))
    assert matches(intel_enclave(Blob(table=table)), expected)


UNALIGNED = (
    Seg(address=0, data=TEXT),
    Seg(address=0x3800, data=b"x" * 0x1000),  # pages 3 and 4: rounding the size before adding the start counts 5 too
    Seg(address=0x8000, data=b"y"),
)


@pytest.mark.parametrize("version", [(1, 4), (1, 5), (2, 1), (2, 4)])
def test_only_metadata_1_3_adds_a_zero_page_after_an_unaligned_segment(version: tuple[int, int]) -> None:
    expected = PlainMeasurer(SIZE).pages(0, REG_RX, TEXT)
    expected.pages(0x3000, REG_RX, bytes(0x800) + b"x" * 0x1000)
    assert matches(
        intel_enclave(Blob(version=version, table=()), segments=UNALIGNED), expected.pages(0x8000, REG_RX, b"y")
    )


def odd(start: int, size: int, *after: Seg) -> tuple[Seg, ...]:
    return (Seg(address=0, data=TEXT), Seg(address=start, data=b"x" * size), *after)


@pytest.mark.parametrize(
    ("segments", "extra"),
    [
        (odd(0x3400, 0x1C00, Seg(address=0x8000, data=b"y")), 0x5000),  # 3 and 4, while rounding counts 5
        (odd(0x3400, 0x1C00), 0x5000),  # last segment
        (odd(0x3400, 0x1C00, Seg(address=0x5000, data=b"y")), None),  # no room before the next
        (odd(0x3000, 0x1C00), None),  # starts on a page
        (odd(0x3400, 0x1E00), None),  # really reaches the page
    ],
)
def test_metadata_1_3_adds_one_zero_page_where_rounding_went_too_far(
    segments: tuple[Seg, ...], extra: int | None
) -> None:
    expected = PlainMeasurer(SIZE)
    for index, segment in enumerate(segments):
        lead = segment.address % PAGE
        expected.pages(segment.address - lead, REG_RX, bytes(lead) + segment.data)
        if index == 1 and extra:
            expected.pages(extra, REG_RX, b"")
    assert matches(intel_enclave(Blob(version=(1, 3), table=()), segments=segments), expected)


def test_pages_with_text_relocations_become_writable() -> None:
    dynamic = Seg(address=0x6000, data=struct.pack("<qQ", 22, 0) + bytes(16), type=2)
    relocations = struct.pack("<QQq", PAGE + 8, 8, 0) + struct.pack("<QQq", 0x10, 0, 0)
    section = Sec(name=".rela.dyn", type=4, data=relocations)
    expected = PlainMeasurer(SIZE).pages(0, REG_RX, TEXT[:PAGE]).pages(PAGE, REG_RWX, TEXT[PAGE:])
    raw = intel_enclave(Blob(table=()), segments=(SEGMENTS[0], dynamic), sections=(section,))
    assert matches(raw, expected)


def test_relocations_do_nothing_without_the_text_flag() -> None:
    section = Sec(name=".rela.dyn", type=4, data=struct.pack("<QQq", PAGE + 8, 8, 0))
    raw = intel_enclave(Blob(table=()), segments=SEGMENTS[:1], sections=(section,))
    assert matches(raw, PlainMeasurer(SIZE).pages(0, REG_RX, TEXT))


def test_a_relocation_across_a_page_border_makes_both_pages_writable() -> None:
    dynamic = Seg(address=0x6000, data=struct.pack("<qQ", 30, 4) + bytes(16), type=2)
    section = Sec(name=".rela.dyn", type=4, data=struct.pack("<QQq", PAGE - 4, 8, 0))
    raw = intel_enclave(Blob(table=()), segments=(SEGMENTS[0], dynamic), sections=(section,))
    assert matches(raw, PlainMeasurer(SIZE).pages(0, REG_RWX, TEXT))


def test_elrange_moves_the_image_and_sets_the_size() -> None:
    blob = Blob(version=(12, 4), table=(), elrange=(0x200000, 0x100000, 0x400000))
    expected = PlainMeasurer(0x400000).pages(0x100000, REG_RX, TEXT)
    (block,) = read(intel_enclave(blob, segments=SEGMENTS[:1]))
    assert block.layout is not None
    assert block.layout.measure().digest() == expected.digest()
    assert "no public file" in block.untested


@pytest.mark.parametrize(("version", "warned"), [((1, 3), False), ((2, 4), False), ((3, 3), True)])
def test_versions_without_public_files_are_marked_untested(version: tuple[int, int], warned: bool) -> None:
    assert bool(read(intel_enclave(Blob(version=version)))[0].untested) is warned


def test_each_blob_is_a_block() -> None:
    made = (Blob(version=(2, 4)), Blob(version=(1, 4), table=TABLE[:1]))
    first, second = read(intel_enclave(*made))
    assert (first.name, second.name) == ("metadata 2.4", "metadata 1.4")
    assert first.layout is not None
    assert second.layout is not None
    assert (first.layout.pages, second.layout.pages) == (12, 7)


def test_the_summary_counts_heap_stack_and_threads_with_dynamic_ones() -> None:
    table = (
        Line(id=1, attributes=1, pages=3, rva=HEAP_AT),
        Line(id=3, attributes=8, pages=20, rva=0x40000),
        *THREAD,
        Repeat(entries=3, times=2, step=0x8000),
        Line(id=17, attributes=0x48, pages=2, rva=0x80000),
        Line(id=14, attributes=0x28, rva=0x83000, content=TCS_TEMPLATE, flags=0x100),
    )
    summary = read(intel_enclave(Blob(table=table)))[0].summary
    assert summary is not None
    assert (summary.heap_pages, summary.heap_pages_most) == (3, 23)
    assert (summary.threads, summary.threads_most, summary.stack_pages) == (3, 4, 2)
    assert summary.dynamic_pages == 23


def test_metadata_1_3_counts_its_entries_otherwise() -> None:
    table = (Line(id=1, attributes=1, pages=3, rva=HEAP_AT), replace(THREAD[0], id=5), replace(THREAD[1], id=2))
    summary = read(intel_enclave(Blob(version=(1, 3), table=table)))[0].summary
    assert summary is not None
    assert (summary.heap_pages, summary.threads, summary.stack_pages) == (3, 1, 2)


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (Blob(table=(Repeat(entries=1, times=1, step=PAGE),)), "enclave.metadata.group"),
        (Blob(table=(*THREAD, Repeat(entries=3, times=1, step=PAGE), Repeat(entries=2, times=1, step=PAGE))),
         "enclave.metadata.group"),
        (Blob(table=(*THREAD, Repeat(entries=3, times=2**32 - 1, step=0))), "enclave.layout.runs"),
        (Blob(table=(*THREAD, Repeat(entries=3, times=1, step=0))), "enclave.layout.overlap"),
        (Blob(table=(Line(id=1, rva=2**64 - PAGE),)), "enclave.layout.range"),
        (Blob(table=(Line(id=1, attributes=1, pages=2**32 - 1, rva=HEAP_AT),)), "enclave.layout.range"),
        (Blob(size=1 << 60, table=(Line(id=1, pages=2**32 - 1, rva=HEAP_AT),)), "enclave.layout.work"),
        (Blob(table=(Line(id=1, rva=HEAP_AT, content=b"x" * 5000),)), "enclave.metadata.content"),
        (Blob(table=(Line(id=4, rva=HEAP_AT, content=b"x" * 5000, flags=0x100),)), "enclave.metadata.content"),
        (Blob(table=(Line(id=4, rva=HEAP_AT, content=b"x" * 4000, flags=0x100),)), "sgx.tcs.reserved"),
        (Blob(table=(Line(id=1, rva=HEAP_AT, flags=0x10000),)), "sgx.secinfo.flags"),
        (Blob(version=(11, 1)), "enclave.metadata.elrange"),
        (Blob(version=(11, 1), elrange=(0, PAGE, SIZE)), "enclave.metadata.elrange"),
        (Blob(version=(11, 1), elrange=(0x100, 0, SIZE)), "enclave.metadata.elrange"),
    ],
)  # fmt: skip
def test_refuses_tables_that_cannot_be_loaded(blob: Blob, code: str) -> None:
    assert code_of(blob) == code


def changed(at: int, raw: bytes) -> bytes:
    """The default file with bytes of its blob replaced."""
    blob = Blob().build()
    blob = blob[:at] + raw + blob[at + len(raw) :]
    return Elf(segments=SEGMENTS, sections=(Sec(name=".note.sgxmeta", type=7, data=note([blob])),)).build()


@pytest.mark.parametrize(
    ("at", "raw", "code"),
    [
        (0, b"\0", "enclave.part.missing"),
        (16, struct.pack("<I", 1000), "enclave.metadata.size"),
        (16, struct.pack("<I", 2**32 - 1), "enclave.metadata.size"),
        (64, b"\6", "sgx.sigstruct.header"),
        (1872, struct.pack("<II", 1904, 40), "enclave.metadata.patch"),
        (1872, struct.pack("<II", 100, 32), "enclave.metadata.directory"),
        (1880, struct.pack("<II", 1904, 33), "enclave.metadata.table"),
        (1880, struct.pack("<II", 1904, 2**32 - 32), "enclave.metadata.directory"),
        (1880, struct.pack("<II", 2**32 - 16, 32), "enclave.metadata.directory"),
    ],
)
def test_refuses_blobs_whose_sizes_lie(at: int, raw: bytes, code: str) -> None:
    assert code_of(raw=changed(at, raw)) == code


def test_refuses_patches_larger_than_their_blob() -> None:
    blob = Blob(patches=((0, b"x" * 3000),) * 2).build()
    at = struct.unpack_from("<I", blob, 1872)[0]
    size = len(blob) - 1904
    blob = blob[: at + 8] + struct.pack("<II", 1904, size) + blob[at + 16 :]
    blob = blob[: at + 40] + struct.pack("<II", 1904, size) + blob[at + 48 :]
    raw = Elf(segments=SEGMENTS, sections=(Sec(name=".note.sgxmeta", type=7, data=note([blob])),)).build()
    assert code_of(raw=raw) == "enclave.metadata.patch"


def test_refuses_a_patch_from_outside_of_the_blob() -> None:
    blob = Blob(patches=((0, b"x" * 100),)).build()
    at = struct.unpack_from("<I", blob, 1872)[0]
    blob = blob[: at + 8] + struct.pack("<I", len(blob) - 50) + blob[at + 12 :]
    raw = Elf(segments=SEGMENTS, sections=(Sec(name=".note.sgxmeta", type=7, data=note([blob])),)).build()
    assert code_of(raw=raw) == "enclave.metadata.patch"


def test_refuses_a_note_of_another_name() -> None:
    raw = Elf(sections=(Sec(name=".note.sgxmeta", type=7, data=bytes(100)),)).build()
    assert code_of(raw=raw) == "enclave.metadata.note"


def test_refuses_a_file_without_the_section() -> None:
    assert code_of(raw=Elf(segments=SEGMENTS).build()) == "enclave.part.missing"


def test_refuses_more_blobs_than_any_file_has() -> None:
    assert code_of(*[Blob(table=())] * 17) == "enclave.metadata.blocks"


def test_refuses_segments_that_share_a_page() -> None:
    segments = (Seg(address=0, data=TEXT), Seg(address=0x1800, data=b"x"))
    assert code_of(raw=intel_enclave(Blob(table=()), segments=segments)) == "enclave.layout.overlap"


def test_refuses_a_group_that_repeats_nothing_four_billion_times() -> None:
    assert code_of(Blob(table=(Repeat(entries=0, times=2**32 - 1, step=0),))) == "enclave.metadata.group"


def test_content_that_a_group_repeats_is_not_copied() -> None:
    content = bytes(PAGE * 512)
    line = Line(id=1, pages=512, rva=0, content=content)
    blob = Blob(size=1 << 36, table=(line, Repeat(entries=1, times=2000, step=len(content))))
    (block,) = blocks(ElfImage.parse(intel_enclave(blob, segments=())))
    assert block.layout is not None
    assert len(block.layout.runs) == 2001
    assert len({id(run.content.obj) for run in block.layout.runs if isinstance(run.content, memoryview)}) == 1


def test_refuses_more_patches_than_any_signer_writes() -> None:
    assert code_of(Blob(patches=((0x1000, b"x"),) * 1025)) == "enclave.metadata.patch"


def test_refuses_a_table_of_relocations_that_is_named_twice() -> None:
    dynamic = Seg(address=0x9000, data=struct.pack("<qQ", 22, 0) + bytes(16), type=2)
    table = Sec(name=".rela.dyn", type=4, data=bytes(24))
    raw = intel_enclave(segments=(*SEGMENTS, dynamic), sections=(table, table))
    assert code_of(raw=raw) == "enclave.metadata.relocations"


def test_refuses_a_blob_that_stands_behind_the_section() -> None:
    blob = Blob().build()
    section = Sec(name=".note.sgxmeta", type=7, data=note([blob]))
    raw = Elf(segments=SEGMENTS, sections=(section, Sec(name="x", data=blob))).build()
    assert code_of(raw=raw) == "enclave.metadata.size"
