"""Signed enclaves of the Open Enclave SDK (since 0.10): section `.oeinfo`, and the loader's patched image.

Zero-base enclaves and enclaves of two linked modules are recognised and refused: no public file has them.

Source: Open Enclave SDK, include/openenclave/internal/properties.h and load.h (structures), and the loader's
behaviour: docs/DesignDocs ("Enclave layout", "Relocation and thread-local storage").
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bastide.enclave.elf import R_X86_64_TPOFF64, SHT_RELA, ElfImage, Segment
from bastide.enclave.image import EnclaveBlock, LayoutSummary, missing, parse_sigstruct
from bastide.enclave.layout import EnclaveLayout, PageRun, check_run_count
from bastide.enclave.locate import OPEN_ENCLAVE_INFO_SIZE, OPEN_ENCLAVE_SECTION
from bastide.enclave.segments import ZERO_PAGE, Patch, patches_within, segment_runs
from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.secs import PageFlags, PageType, SecInfo, Tcs
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE, SigStruct
from bastide.units import PAGE_SIZE, pages_of

SIGSTRUCT_OFFSET = 144
"""Bytes from the start of `.oeinfo` to the SIGSTRUCT."""

MAX_THREADS = 4096
_INFO = struct.Struct("<IIQQQHHI16s16sQQQ6Q")
_IMAGE_INFO_AT = 96
_CONFIG_ZERO_BASE = 0x2
_CONTROL_PAGES = 4
"""TCS, two SSA frames and a guard: then come the pages of thread-local storage."""

_PAGES_PER_THREAD = 8
_SSA_FRAMES = 2
_STACK_FILL = b"\xcc" * PAGE_SIZE
_READ = SecInfo(page_flags=PageFlags.R, page_type=PageType.REG)
_READ_WRITE = SecInfo(page_flags=PageFlags.R | PageFlags.W, page_type=PageType.REG)
_TCS = SecInfo(page_flags=PageFlags(0), page_type=PageType.TCS)
_RELA = struct.Struct("<QQq")
_SYMBOLS = (
    "_enclave_rva",
    "_reloc_rva",
    "_reloc_size",
    "_tdata_rva",
    "_tdata_size",
    "_tdata_align",
    "_tbss_size",
    "_tbss_align",
    "_td_from_tcs_offset",
)
_MODULE_INFO = "_module_info"
_LARGEST = 1 << 34  # pages of heap, stack or thread-local storage: 64 TiB; keeps sums within 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class OeInfo:
    """What `.oeinfo` says.

    Attributes:
        offset: bytes from the start of the file.
        address: where the section is loaded.
        heap_pages, stack_pages, threads: sizes; the stack is that of each thread.
        product_id, security_version: 16 bits each.
        flags: bit 0 captures page faults, bit 1 asks for base address 0.
        family_id, extended_product_id: 16 bytes each (with KSS).
        attributes: flags and XFRM.
        start_address: of a zero-base enclave.
        sigstruct: None when not signed.
    """

    offset: int
    address: int
    heap_pages: int
    stack_pages: int
    threads: int
    product_id: int
    security_version: int
    flags: int
    family_id: bytes
    extended_product_id: bytes
    attributes: Attributes
    start_address: int
    sigstruct: SigStruct | None

    @classmethod
    def parse(cls, elf: ElfImage) -> "OeInfo":
        """Read the section.

        Raises:
            MalformedError: ``enclave.part.missing``, ``enclave.oeinfo.size``, ``enclave.oeinfo.limits``, those of
                ``SigStruct.parse`` and ``elf.range``.
        """
        section = elf.section(OPEN_ENCLAVE_SECTION)
        if section is None:
            raise missing(OPEN_ENCLAVE_SECTION, "the sections")
        raw = bytes(elf.content(section))
        size = int.from_bytes(raw[:4], "little")
        if size != OPEN_ENCLAVE_INFO_SIZE or len(raw) < size:
            raise MalformedError(
                "enclave.oeinfo.size",
                f"expected {OPEN_ENCLAVE_INFO_SIZE} bytes, seen {size} in a section of {len(raw)}",
            )
        _, _, heap, stack, threads, product, svn, flags, family, extended, attributes, xfrm, start, *_ = (
            _INFO.unpack_from(raw)
        )
        if heap > _LARGEST or stack > _LARGEST or threads > MAX_THREADS:
            raise MalformedError(
                "enclave.oeinfo.limits",
                f"expected at most {_LARGEST} pages and {MAX_THREADS} threads, seen {heap}, {stack} and {threads}",
            )
        return cls(
            offset=section.offset,
            address=section.address,
            heap_pages=heap,
            stack_pages=stack,
            threads=threads,
            product_id=product,
            security_version=svn,
            flags=flags,
            family_id=family,
            extended_product_id=extended,
            attributes=Attributes(flags=AttributeFlags(attributes), xfrm=xfrm),
            start_address=start,
            sigstruct=parse_sigstruct(raw[SIGSTRUCT_OFFSET : SIGSTRUCT_OFFSET + SIGSTRUCT_SIZE]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tls:
    """Sections of thread-local storage: address, sizes and alignments in bytes."""

    data_address: int
    data_size: int
    data_alignment: int
    zero_size: int
    zero_alignment: int

    @property
    def pages(self) -> int:
        return pages_of(_rounded(self.data_size, self.data_alignment) + _rounded(self.zero_size, self.zero_alignment))


def blocks(elf: ElfImage) -> tuple[EnclaveBlock, ...]:
    """The one block of a file.

    Raises:
        MalformedError: as ``OeInfo.parse``; ``enclave.oeinfo.variant``, ``enclave.oeinfo.segments``, those of
            ``EnclaveLayout`` and of the ELF reader.
    """
    info = OeInfo.parse(elf)
    refused = _variant(elf, info)
    return (
        EnclaveBlock(
            name="oeinfo",
            sigstruct_offset=info.offset + SIGSTRUCT_OFFSET,
            sigstruct=info.sigstruct,
            layout=None if refused else layout(elf, info),
            summary=LayoutSummary(
                heap_pages=info.heap_pages,
                heap_pages_most=info.heap_pages,
                stack_pages=info.stack_pages,
                threads=info.threads,
                threads_most=info.threads,
            ),
            untested=refused,
        ),
    )


def _variant(elf: ElfImage, info: OeInfo) -> str:
    """Words on a variant that is not measured; empty for the usual form."""
    if info.flags & _CONFIG_ZERO_BASE:
        return "a zero-base enclave: not measured, no public file exists to test against"
    if elf.needs_libraries:
        return "an enclave of several linked modules: not measured, no public file exists to test against"
    return ""


def layout(elf: ElfImage, info: OeInfo) -> EnclaveLayout:
    """How the loader builds the enclave: patched segments, relocations, heap, threads.

    Raises:
        MalformedError: see ``blocks``.
    """
    relocations = _relocations(elf)
    tls = _tls(elf)
    image_size = _image_size(elf.loads)
    heap_at = image_size + len(relocations)
    threads_at = heap_at + info.heap_pages * PAGE_SIZE
    if tls.pages > _LARGEST:
        raise MalformedError(
            "enclave.oeinfo.limits", f"expected at most {_LARGEST} pages of thread-local storage, seen {tls.pages}"
        )
    per_thread = (info.stack_pages + tls.pages + 3 + _CONTROL_PAGES) * PAGE_SIZE
    size = 1 << max(0, threads_at + info.threads * per_thread - 1).bit_length()
    patches = [
        *_info_patches(info, size, (image_size, len(relocations), heap_at)),
        *_symbol_patches(elf, tls, image_size, len(relocations)),
    ]
    runs: list[PageRun] = []
    for segment in elf.loads:
        own = patches_within(patches, segment.address, segment.memory_size)
        runs.extend(segment_runs(elf, segment, patches=own))
    if relocations:
        runs.append(PageRun(offset=image_size, secinfo=_READ, content=relocations))
    if info.heap_pages:
        runs.append(PageRun(offset=heap_at, secinfo=_READ_WRITE, zero_pages=info.heap_pages))
    check_run_count(info.threads * _PAGES_PER_THREAD)
    for thread in range(info.threads):
        runs.extend(_thread_runs(threads_at + thread * per_thread, elf.entry, info.stack_pages, tls.pages))
    return EnclaveLayout(size=size, ssa_frame_size=1, runs=tuple(runs))


def _image_size(loads: tuple[Segment, ...]) -> int:
    if not loads or min(segment.address for segment in loads) != 0:
        raise MalformedError("enclave.oeinfo.segments", "expected segments to load, the first at address 0")
    return pages_of(max(segment.address + segment.memory_size for segment in loads)) * PAGE_SIZE


def _info_patches(info: OeInfo, size: int, places: tuple[int, int, int]) -> Iterator[Patch]:
    """Sizes go into image_info; the signature is not measured."""
    relocations_at, relocations_size, heap_at = places
    image_info = (info.address, OPEN_ENCLAVE_INFO_SIZE, relocations_at, relocations_size, heap_at, size)
    yield Patch(info.address + _IMAGE_INFO_AT, struct.pack("<6Q", *image_info))
    yield Patch(info.address + SIGSTRUCT_OFFSET, bytes(SIGSTRUCT_SIZE))


def _symbol_patches(elf: ElfImage, tls: _Tls, relocations_at: int, relocations_size: int) -> Iterator[Patch]:
    """Variables of the enclave's runtime that the loader sets, as far as the enclave has them."""
    found = elf.dynamic_symbols(_SYMBOLS)
    values = {
        "_enclave_rva": found.get("_enclave_rva", 0),
        "_reloc_rva": relocations_at,
        "_reloc_size": relocations_size,
        "_td_from_tcs_offset": (tls.pages + _CONTROL_PAGES) * PAGE_SIZE,
    }
    if tls.data_size:
        values |= {"_tdata_rva": tls.data_address, "_tdata_size": tls.data_size, "_tdata_align": tls.data_alignment}
    if tls.zero_size:
        values |= {"_tbss_size": tls.zero_size, "_tbss_align": tls.zero_alignment}
    for name, value in values.items():
        if name in found:
            yield Patch(found[name], (value & (1 << 64) - 1).to_bytes(8, "little"))


def _tls(elf: ElfImage) -> _Tls:
    data, zero = elf.section(".tdata"), elf.section(".tbss")
    return _Tls(
        data_address=data.address if data else 0,
        data_size=data.size if data else 0,
        data_alignment=data.alignment if data else 1,
        zero_size=zero.size if zero else 0,
        zero_alignment=zero.alignment if zero else 1,
    )


def _rounded(size: int, alignment: int) -> int:
    step = max(1, alignment)
    return -(-size // step) * step


def _relocations(elf: ElfImage) -> bytes:
    """The dynamic relocations in whole pages; offsets of thread-local symbols become addends."""
    out = bytearray()
    for name in (".rela.dyn", ".rela.plt"):
        section = elf.section(name)
        if section is None or section.type != SHT_RELA:
            continue
        start = len(out)
        out += elf.content(section)
        for index, entry in enumerate(elf.relocations(section)):
            if entry.type == R_X86_64_TPOFF64:
                value = elf.symbol_value(entry.symbol)
                struct.pack_into("<Q", out, start + index * _RELA.size + 16, value)
    return bytes(out.ljust(pages_of(len(out)) * PAGE_SIZE, b"\0"))


def _thread_runs(at: int, entry: int, stack_pages: int, tls_pages: int) -> Iterator[PageRun]:
    """Guard, stack, guard, TCS, two SSA frames, guard, thread-local storage and thread data."""
    stack = at + PAGE_SIZE
    tcs = stack + (stack_pages + 1) * PAGE_SIZE
    local = tcs + _CONTROL_PAGES * PAGE_SIZE
    data = local + tls_pages * PAGE_SIZE
    page = Tcs(ossa=tcs + PAGE_SIZE, nssa=_SSA_FRAMES, oentry=entry, ofs_base=data, ogs_base=data)
    zero = PageRun(offset=local, secinfo=_READ_WRITE, content=ZERO_PAGE, copies=tls_pages + 1)
    if stack_pages:
        yield PageRun(offset=stack, secinfo=_READ_WRITE, content=_STACK_FILL, copies=stack_pages)
    yield PageRun(offset=tcs, secinfo=_TCS, content=page.build())
    yield replace(zero, offset=tcs + PAGE_SIZE, copies=_SSA_FRAMES)
    yield zero
