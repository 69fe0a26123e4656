"""Small enclave files made from nothing, and a plain measurer to compare with: rules without other people's files."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bastide.sgx.secs import Tcs
from bastide.sgx.sigstruct import SigStruct, sign
from bastide.sgx.types import MrEnclave
from support.sgx_values import signing_key, unsigned_sigstruct

PAGE = 4096
R, W, X = 1, 2, 4
REG_R, REG_RW, REG_RX, REG_RWX, TCS = 0x201, 0x203, 0x205, 0x207, 0x100
PF_X, PF_W, PF_R = 1, 2, 4


class PlainMeasurer:
    """MRENCLAVE record by record, as the SDM words it, and nothing else."""

    def __init__(self, size: int, ssa_frame_size: int = 1) -> None:
        self.stream = bytearray(struct.pack("<8sIQ44x", b"ECREATE", ssa_frame_size, size))

    def bare(self, offset: int, flags: int, pages: int = 1) -> "PlainMeasurer":
        """Pages that are only added."""
        for page in range(pages):
            self.stream += struct.pack("<8sQQ40x", b"EADD", offset + page * PAGE, flags)
        return self

    def pages(self, offset: int, flags: int, content: bytes, copies: int = 1) -> "PlainMeasurer":
        """Measured pages; content is padded to whole ones."""
        padded = content.ljust(-(-max(1, len(content)) // PAGE) * PAGE, b"\0") * copies
        for start in range(0, len(padded), PAGE):
            self.bare(offset + start, flags)
            for chunk in range(start, start + PAGE, 256):
                record = struct.pack("<8sQ48x", b"EEXTEND", offset + chunk)
                self.stream += record + padded[chunk : chunk + 256]
        return self

    def digest(self) -> MrEnclave:
        """SHA-256 of the stream."""
        return MrEnclave(hashlib.sha256(self.stream).digest())


@dataclass(frozen=True, kw_only=True)
class Seg:
    """A program header; ``offset`` is chosen unless given."""

    address: int
    data: bytes = b""
    memory: int | None = None
    flags: int = PF_R | PF_X
    type: int = 1
    offset: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sec:
    """A section: with data of its own, or (``size``) a part of a segment."""

    name: str
    type: int = 1
    address: int = 0
    data: bytes = b""
    size: int | None = None
    link: int = 0
    alignment: int = 1


@dataclass(frozen=True, kw_only=True)
class Elf:
    """An ELF file to be written."""

    segments: tuple[Seg, ...] = ()
    sections: tuple[Sec, ...] = ()
    entry: int = 0x1000

    def place_of(self, name: str) -> int:
        """Offset of a section in the file that ``build`` writes."""
        return self._layout()[1][[section.name for section in self.sections].index(name)]

    def build(self) -> bytes:
        """The file: header, program headers, segments, sections, names, section headers."""
        offsets, section_offsets, end = self._layout()
        out = bytearray(end)
        names = b"\0" + b"".join(section.name.encode() + b"\0" for section in self.sections) + b".shstrtab\0"
        for segment, offset in zip(self.segments, offsets, strict=True):
            out[offset : offset + len(segment.data)] = segment.data
        for section, offset in zip(self.sections, section_offsets, strict=True):
            if section.size is None:
                out[offset : offset + len(section.data)] = section.data
        table = bytes(64)
        at = 1
        for section, offset in zip(self.sections, section_offsets, strict=True):
            size = len(section.data) if section.size is None else section.size
            table += struct.pack(
                "<IIQQQQIIQQ", at, section.type, 0, section.address, offset, size, section.link, 0, section.alignment, 0
            )
            at += len(section.name) + 1
        table += struct.pack("<IIQQQQIIQQ", at, 3, 0, 0, end, len(names), 0, 0, 1, 0)
        count = len(self.sections) + 2
        headers = b"".join(
            struct.pack(
                "<IIQQQQQQ",
                s.type,
                s.flags,
                offset,
                s.address,
                s.address,
                len(s.data),
                len(s.data) if s.memory is None else s.memory,
                PAGE,
            )
            for s, offset in zip(self.segments, offsets, strict=True)
        )
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        header = struct.pack(
            "<16sHHIQQQIHHHHHH",
            ident,
            3,
            62,
            1,
            self.entry,
            64,
            end + len(names),
            0,
            64,
            56,
            len(self.segments),
            64,
            count,
            count - 1,
        )
        out[:64] = header
        out[64 : 64 + len(headers)] = headers
        return bytes(out) + names + table

    def _layout(self) -> tuple[list[int], list[int], int]:
        end = 64 + 56 * len(self.segments)
        offsets, section_offsets = [], []
        for segment in self.segments:
            # File and memory agree modulo a page, as linkers have it.
            offset = end + (segment.address - end) % PAGE if segment.offset is None else segment.offset
            offsets.append(offset)
            end = max(end, offset + len(segment.data))
        for section in self.sections:
            if section.size is None:
                section_offsets.append(end)
                end += len(section.data)
            else:
                home = next(
                    i
                    for i, s in enumerate(self.segments)
                    if s.address <= section.address < s.address + max(1, len(s.data))
                )
                section_offsets.append(offsets[home] + section.address - self.segments[home].address)
        return offsets, section_offsets, end


TEXT = bytes(range(256)) * 20  # 5,120 bytes: two pages
DATA = b"data" * 25
SEGMENTS = (
    Seg(address=0, data=TEXT),
    Seg(address=0x3100, data=DATA, memory=5000, flags=PF_R | PF_W),
)
"""Code on pages 0 and 1, data on pages 3 and 4 of which the second is zero."""

TCS_TEMPLATE = Tcs(ossa=PAGE, nssa=2, oentry=0x1000, ofs_base=3 * PAGE, ogs_base=3 * PAGE).build()[:72]
HEAP_AT, STACK_AT, TCS_AT, SSA_AT = 0x10000, 0x20000, 0x24000, 0x25000


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of an Intel SDK layout table."""

    id: int
    attributes: int = 3
    pages: int = 1
    rva: int = 0
    fill: int = 0
    content: bytes = b""
    flags: int = REG_RW


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A group of an Intel SDK layout table."""

    entries: int
    times: int
    step: int


THREAD = (
    Line(id=8, pages=2, rva=STACK_AT, fill=0xCCCCCCCC),
    Line(id=4, rva=TCS_AT, content=TCS_TEMPLATE, flags=TCS),
    Line(id=6, pages=2, rva=SSA_AT),
)
TABLE: tuple[Line | Repeat, ...] = (Line(id=1, attributes=1, pages=3, rva=HEAP_AT), *THREAD)


@dataclass(frozen=True, kw_only=True)
class Blob:
    """An Intel SDK metadata blob to be written."""

    version: tuple[int, int] = (2, 4)
    size: int = 0x100000
    table: tuple[Line | Repeat, ...] = TABLE
    patches: tuple[tuple[int, bytes], ...] = ()
    elrange: tuple[int, int, int] | None = None
    sigstruct: SigStruct | None = None

    def build(self) -> bytes:
        """The bytes; contents follow the directories."""
        data = bytearray()
        start = 1872 + 32

        def put(raw: bytes) -> int:
            data.extend(raw)
            return start + len(data) - len(raw)

        table = b"".join(self._line(line, put) for line in self.table)
        patches = b"".join(struct.pack("<QII16x", at, put(raw), len(raw)) for at, raw in self.patches)
        directories = struct.pack("<IIII", put(patches), len(patches), put(table), len(table))
        if self.elrange:
            directories += struct.pack("<II", put(struct.pack("<QQQ", *self.elrange)), 24)
        version = self.version[0] << 32 | self.version[1]
        head = struct.pack(
            "<QQIIIIIIQ16s", 0x86A80294635D0E4C, version, start + len(data), 0, 1, 0, 0, 0, self.size, b"\4"
        )
        signature = self.sigstruct.build() if self.sigstruct else bytes(1808)
        return head + signature + directories.ljust(32, b"\0") + bytes(data)

    @staticmethod
    def _line(line: Line | Repeat, put: object) -> bytes:
        if isinstance(line, Repeat):
            return struct.pack("<HHIQ16x", 0x1009, line.entries, line.times, line.step)
        size, place = (len(line.content), put(line.content)) if line.content else (line.fill, 0)  # type: ignore[operator]
        return struct.pack("<HHIQIIQ", line.id, line.attributes, line.pages, line.rva, size, place, line.flags)


def note(blobs: Sequence[bytes]) -> bytes:
    """Content of `.note.sgxmeta`."""
    content = b"sgx_metadata\0" + b"".join(blobs)
    return struct.pack("<III", 13, len(content) - 13, 1) + content


def intel_enclave(*blobs: Blob, segments: tuple[Seg, ...] = SEGMENTS, sections: tuple[Sec, ...] = ()) -> bytes:
    """A file of the Intel SDK; by default one blob, not signed."""
    made = [blob.build() for blob in blobs or (Blob(),)]
    return Elf(segments=segments, sections=(Sec(name=".note.sgxmeta", type=7, data=note(made)), *sections)).build()


def signed_intel_enclave(**changes: object) -> bytes:
    """The default file, signed by ``signing_key()``; ``changes`` are fields of the SIGSTRUCT."""
    unsigned = replace(unsigned_sigstruct(), **{"enclave_hash": expected_intel().digest(), **changes})  # type: ignore[arg-type]
    return intel_enclave(Blob(sigstruct=sign(unsigned, signing_key())))


def segment_pages(measurer: PlainMeasurer) -> PlainMeasurer:
    """What ``SEGMENTS`` measure to."""
    measurer.pages(0, REG_RX, TEXT)
    return measurer.pages(0x3000, REG_RW, bytes(0x100) + DATA).pages(0x4000, REG_RW, b"")


def thread_pages(measurer: PlainMeasurer, delta: int = 0) -> PlainMeasurer:
    """What ``THREAD`` measures to."""
    tcs = TCS_AT + delta
    page = Tcs(ossa=tcs + PAGE, nssa=2, oentry=0x1000, ofs_base=tcs + 3 * PAGE, ogs_base=tcs + 3 * PAGE).build()
    measurer.pages(STACK_AT + delta, REG_RW, b"\xcc" * PAGE, 2).pages(tcs, TCS, page)
    return measurer.pages(SSA_AT + delta, REG_RW, b"", 2)


def expected_intel() -> PlainMeasurer:
    """What the default file measures to."""
    return thread_pages(segment_pages(PlainMeasurer(0x100000)).bare(HEAP_AT, REG_RW, 3))


@dataclass(frozen=True, kw_only=True)
class OeFile:
    """A file of Open Enclave: code, read-only data with `.oeinfo`, data with symbols and thread-local storage."""

    heap: int = 5
    stack: int = 2
    threads: int = 2
    flags: int = 0
    info_size: int = 1960
    tdata: int = 40
    tbss: int = 5000
    symbols: tuple[str, ...] = ("_reloc_rva", "_reloc_size", "_td_from_tcs_offset", "_tdata_size", "_enclave_rva")
    needed: bool = False
    relocations: bytes = struct.pack("<QQq", 0x5000, 8, 0x1000) + struct.pack("<QQq", 0x5008, 1 << 32 | 18, 0)
    sigstruct: SigStruct | None = None
    sections: tuple[Sec, ...] = field(default_factory=tuple)

    def info(self) -> bytes:
        """`.oeinfo`."""
        head = struct.pack("<IIQQQ", self.info_size, 0, self.heap, self.stack, self.threads)
        config = struct.pack("<HHI32xQQQ", 1, 2, self.flags, 4, 3, 0)
        signature = self.sigstruct.build() if self.sigstruct else bytes(1808)
        return (head + config).ljust(144, b"\0") + signature + b"\xec" * 8

    def symbol_address(self, name: str) -> int:
        """Where a symbol's variable lies: on the page at 0x5000."""
        return 0x5100 + 8 * self.symbols.index(name)

    def build(self) -> bytes:
        """The file."""
        names, table = b"\0", bytes(24)
        for name in self.symbols:
            table += struct.pack("<IBBHQQ", len(names), 0x11, 0, 1, self.symbol_address(name), 8)
            names += name.encode() + b"\0"
        dynamic = struct.pack("<qQ", 1, 1) * self.needed + bytes(16)
        segments = (
            Seg(address=0, data=TEXT),
            Seg(address=0x3000, data=self.info(), flags=PF_R),
            Seg(address=0x5000, data=b"\x11" * 64, memory=0x1200, flags=PF_R | PF_W),
            Seg(address=0x7000, data=dynamic, type=2),
        )
        sections = (
            Sec(name=".dynsym", type=11, data=table, link=2),
            Sec(name=".dynstr", type=3, data=names),
            Sec(name=".oeinfo", address=0x3000, size=max(self.info_size, 1960) if self.info_size < 5000 else 1960),
            Sec(name=".rela.dyn", type=4, data=self.relocations),
            Sec(name=".tdata", address=0x5000, size=self.tdata, alignment=16),
            Sec(name=".tbss", type=8, address=0x5000, size=self.tbss, alignment=32),
            *self.sections,
        )
        return Elf(segments=segments, sections=sections, entry=0x1234).build()


def expected_oe(file: OeFile) -> PlainMeasurer:
    """What such a file measures to, with the default sizes and symbols."""
    tls = -(-(48 + 5024) // PAGE)  # .tdata rounded to 16, .tbss to 32
    image, relocation_size = 0x7000, PAGE
    heap = image + relocation_size
    thread_pages_count = 1 + file.stack + 1 + 3 + 1 + tls + 1
    size = 1 << (heap + (file.heap + file.threads * thread_pages_count) * PAGE - 1).bit_length()
    info = bytearray(file.info())
    info[96:144] = struct.pack("<6Q", 0x3000, 1960, image, relocation_size, heap, size)
    info[144:1952] = bytes(1808)
    data = bytearray((b"\x11" * 64).ljust(2 * PAGE, b"\0"))
    values = {
        "_reloc_rva": image,
        "_reloc_size": relocation_size,
        "_td_from_tcs_offset": (tls + 4) * PAGE,
        "_tdata_size": 40,
        "_enclave_rva": file.symbol_address("_enclave_rva"),
    }
    for name, value in values.items():
        at = file.symbol_address(name) - 0x5000
        data[at : at + 8] = value.to_bytes(8, "little")
    relocations = file.relocations[:40] + struct.pack("<q", file.symbol_address("_reloc_rva"))
    measurer = (
        PlainMeasurer(size).pages(0, REG_RX, TEXT).pages(0x3000, REG_R, bytes(info)).pages(0x5000, REG_RW, bytes(data))
    )
    measurer.pages(image, REG_R, relocations).bare(heap, REG_RW, file.heap)
    at = heap + file.heap * PAGE
    for _ in range(file.threads):
        tcs = at + (2 + file.stack) * PAGE
        end = tcs + (4 + tls) * PAGE
        page = Tcs(ossa=tcs + PAGE, nssa=2, oentry=0x1234, ofs_base=end, ogs_base=end).build()
        measurer.pages(at + PAGE, REG_RW, b"\xcc" * PAGE, file.stack).pages(tcs, TCS, page)
        measurer.pages(tcs + PAGE, REG_RW, b"", 2).pages(tcs + 4 * PAGE, REG_RW, b"", tls + 1)
        at = end + PAGE
    return measurer
