import struct
import time
from dataclasses import replace

import pytest

from bastide.enclave.elf import MAX_SECTIONS, MAX_SEGMENTS, ElfImage, is_elf
from bastide.errors import MalformedError
from support.enclave_files import PF_R, Elf, Sec, Seg

DYNAMIC_SYMBOLS = (
    Sec(name=".dynsym", type=11, data=bytes(24) + struct.pack("<IBBHQQ", 1, 0x11, 0, 1, 0x77, 8), link=2),
    Sec(name=".dynstr", type=3, data=b"\0_enclave_rva\0"),
)


def patched(raw: bytes, at: int, value: int, size: int) -> bytes:
    return raw[:at] + value.to_bytes(size, "little") + raw[at + size :]


def code_of(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        ElfImage.parse(raw)
    return caught.value.code


GOOD = Elf(segments=(Seg(address=0, data=b"text" * 100),), sections=(Sec(name=".note.x", data=b"content"),)).build()


def test_reads_segments_sections_and_entry() -> None:
    elf = ElfImage.parse(GOOD)
    assert [(s.address, s.file_size) for s in elf.loads] == [(0, 400)]
    section = elf.section(".note.x")
    assert section is not None
    assert bytes(elf.content(section)) == b"content"
    assert elf.section(".absent") is None
    assert elf.entry == 0x1000
    assert is_elf(GOOD)
    assert not is_elf(b"\x7fEL")


@pytest.mark.parametrize(
    ("at", "value", "size", "code"),
    [
        (0, 0, 1, "elf.header"),
        (4, 1, 1, "elf.header"),  # 32 bits
        (5, 2, 1, "elf.header"),  # big-endian
        (16, 2, 2, "elf.header"),  # bound to an address
        (18, 183, 2, "elf.header"),  # another processor
        (32, 1 << 63, 8, "elf.range"),  # program headers past the end
        (54, 1, 2, "elf.count"),  # their size
        (56, MAX_SEGMENTS + 1, 2, "elf.count"),
        (40, 1 << 63, 8, "elf.range"),  # section headers past the end
        (58, 1, 2, "elf.count"),  # their size
        (60, MAX_SECTIONS + 1, 2, "elf.count"),
        (60, 0, 2, "elf.count"),  # more than 65,535 sections are counted elsewhere: a million is refused
        (62, 99, 2, "elf.count"),  # names in a section that does not exist
        (64 + 8, 1 << 62, 8, "elf.range"),  # segment past the end
        (64 + 32, 1 << 40, 8, "elf.range"),  # more of the file than there is
        (64 + 40, 1, 8, "elf.segment"),  # less memory than file
        (64 + 40, (1 << 64) - 1, 8, "elf.segment"),  # end of the segment wraps
        (64 + 16, 1 << 47, 8, "elf.segment"),  # address no enclave can have
    ],
)
def test_refuses_headers_that_lie(at: int, value: int, size: int, code: str) -> None:
    assert code_of(patched(GOOD, at, value, size)) == code


def test_refuses_a_file_that_ends_in_its_header() -> None:
    assert code_of(GOOD[:63]) == "elf.range"


def test_refuses_a_name_without_end() -> None:
    at = GOOD.index(b".shstrtab\0")
    raw = GOOD[:at] + b"." * 10 + GOOD[at + 10 :]
    assert code_of(raw) == "elf.strings"


def test_a_file_without_sections_has_none() -> None:
    assert ElfImage.parse(patched(GOOD, 40, 0, 8)).sections == ()


def test_refuses_a_section_past_the_end_when_it_is_read() -> None:
    raw = Elf(sections=(Sec(name=".x", data=b"1234"),)).build()
    at = raw.rindex(struct.pack("<QQ", ElfImage.parse(raw).sections[1].offset, 4))
    elf = ElfImage.parse(patched(raw, at + 8, 1 << 40, 8))
    section = elf.section(".x")
    assert section is not None
    with pytest.raises(MalformedError) as caught:
        elf.content(section)
    assert caught.value.code == "elf.range"


def test_finds_dynamic_symbols_by_name() -> None:
    elf = ElfImage.parse(Elf(sections=DYNAMIC_SYMBOLS).build())
    assert elf.dynamic_symbols(["_enclave_rva", "_absent"]) == {"_enclave_rva": 0x77}
    assert elf.symbol_value(1) == 0x77


def test_without_dynamic_symbols_none_is_found() -> None:
    elf = ElfImage.parse(GOOD)
    assert elf.dynamic_symbols(["_enclave_rva"]) == {}
    with pytest.raises(MalformedError) as caught:
        elf.symbol_value(0)
    assert caught.value.code == "elf.range"


def test_refuses_symbols_whose_names_lie_in_no_section() -> None:
    elf = ElfImage.parse(Elf(sections=(replace(DYNAMIC_SYMBOLS[0], link=99),)).build())
    with pytest.raises(MalformedError) as caught:
        elf.dynamic_symbols(["_enclave_rva"])
    assert caught.value.code == "elf.range"


@pytest.mark.parametrize("index", [2, 1 << 31])
def test_refuses_a_symbol_that_does_not_exist(index: int) -> None:
    with pytest.raises(MalformedError):
        ElfImage.parse(Elf(sections=DYNAMIC_SYMBOLS).build()).symbol_value(index)


def test_refuses_too_many_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.elf.MAX_SYMBOLS", 1)
    with pytest.raises(MalformedError) as caught:
        ElfImage.parse(Elf(sections=DYNAMIC_SYMBOLS).build()).dynamic_symbols(["x"])
    assert caught.value.code == "elf.count"


def test_refuses_too_many_bytes_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.enclave.elf._MAX_STRINGS", 5)
    assert code_of(GOOD) == "elf.count"


@pytest.mark.parametrize(
    ("tags", "text", "needed"),
    [
        ([(22, 0)], True, False),
        ([(30, 4)], True, False),
        ([(30, 8)], False, False),
        ([(1, 5)], False, True),
        ([(0, 0), (22, 0), (1, 1)], False, False),
    ],
)
def test_reads_the_dynamic_section_up_to_its_end(tags: list[tuple[int, int]], text: bool, needed: bool) -> None:
    raw = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    elf = ElfImage.parse(Elf(segments=(Seg(address=0, data=raw, type=2, flags=PF_R),)).build())
    assert (elf.has_text_relocations, elf.needs_libraries) == (text, needed)


def test_reads_relocations_with_and_without_addends() -> None:
    sections = (
        Sec(name=".rela.dyn", type=4, data=struct.pack("<QQq", 0x10, 3 << 32 | 8, -1) + b"cut"),
        Sec(name=".rel.dyn", type=9, data=struct.pack("<QQ", 0x20, 8)),
    )
    elf = ElfImage.parse(Elf(sections=sections).build())
    rela, rel = (list(elf.relocations(section)) for section in elf.sections[1:3])
    assert [(entry.offset, entry.type, entry.symbol, entry.addend) for entry in rela] == [(0x10, 8, 3, -1)]
    assert [(entry.offset, entry.addend) for entry in rel] == [(0x20, 0)]


def test_a_section_without_bytes_in_the_file_is_empty() -> None:
    elf = ElfImage.parse(Elf(sections=(Sec(name=".bss", type=8, size=None, data=b"x"),)).build())
    assert bytes(elf.content(elf.sections[1])) == b""


def test_names_that_never_end_are_not_copied() -> None:
    table = struct.pack("<IBBHQQ", 0, 0x11, 0, 1, 7, 8) * 20_000
    sections = (Sec(name=".dynsym", type=11, data=table, link=2), Sec(name=".dynstr", type=3, data=b"A" * (15 << 20)))
    elf = ElfImage.parse(Elf(sections=sections).build())
    before = time.process_time()
    assert elf.dynamic_symbols(["AAAA"]) == {}
    assert time.process_time() - before < 2  # copying them would be 300 GB
