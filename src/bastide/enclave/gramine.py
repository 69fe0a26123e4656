"""Gramine enclaves: there is no container file; the measurement follows from manifest, libpal.so and the sizes.

One layout holds for Gramine 1.3 to 1.9. No public triple of manifest, libpal.so and signature was found: the layout is
checked against vectors that we made ourselves from the same description.

Source: Gramine documentation, "Manifest syntax" and "Gramine-SGX enclave layout" as its signer builds it.
"""

import re
import struct
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from bastide.enclave.elf import ElfImage
from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind, LayoutSummary
from bastide.enclave.layout import EnclaveLayout, Image, PageRun
from bastide.enclave.segments import ZERO_PAGE, segment_runs
from bastide.errors import MalformedError
from bastide.sgx.secs import PageFlags, PageType, SecInfo, Tcs
from bastide.sgx.sigstruct import SigStruct
from bastide.units import GIB, MIB, PAGE_SIZE, pages_of

MAX_MANIFEST = 64 * MIB
"""Bytes of a manifest; one with 20,000 trusted files has 3 MiB."""

MAX_PARSED = 8 * MIB
"""Bytes of it that are read as TOML: all but the tables of trusted files, which say nothing about the layout."""

MAX_THREADS = 4096
_MAX_ENCLAVE = 1 << 46
_DEFAULT_SIZE, _DEFAULT_THREADS = "256M", 4
_HEAP_MIN = 0x10000
_SSA_FRAME_PAGES, _SSA_FRAMES = 4, 2
_STACK_PAGES, _SIGNAL_STACK_PAGES = 64, 16
_GPR_SIZE = 184
_CANARY = 0xBADBADBADBAD
_LIMIT = 0xFFF
_SCALES = {"K": 1024, "M": MIB, "G": GIB}
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})([KMG]?)")
# Tables of trusted files make up nearly all of a manifest and say nothing about the layout.
_FILE_TABLES = re.compile(
    rb"^\[\[sgx\.trusted_files\]\][^\n]*\n(?:[ \t]*[a-z_0-9]+[ \t]*=[^\n]*\n|[ \t]*\n)*", re.MULTILINE
)
# The standard library's reader takes quadratic time for keys of very many parts.
_DEEP_KEY = re.compile(rb"""(?:["']?[A-Za-z0-9_-]++["']?[ \t]*+\.[ \t]*+){64}""")
_MULTI_LINE = (b'"""', b"'''")

# Offsets in the first page of a thread's block (struct pal_enclave_tcb), the same from 1.3 to 1.9.
_TLS_FIELDS = {
    "self": 0,
    "canary": 8,
    "enclave_size": 272,
    "tcs_offset": 280,
    "initial_stack": 288,
    "signal_stack_low": 304,
    "signal_stack_high": 312,
    "ssa": 328,
    "gpr": 336,
    "manifest_size": 416,
    "heap_min": 424,
    "heap_max": 432,
}

_R = SecInfo(page_flags=PageFlags.R, page_type=PageType.REG)
_RW = SecInfo(page_flags=PageFlags.R | PageFlags.W, page_type=PageType.REG)
_RWX = SecInfo(page_flags=PageFlags.R | PageFlags.W | PageFlags.X, page_type=PageType.REG)
_TCS = SecInfo(page_flags=PageFlags(0), page_type=PageType.TCS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest (``*.manifest.sgx``) says about the enclave.

    Attributes:
        text: the file; all of it is measured.
        enclave_size: bytes of the address range.
        threads: ``sgx.max_threads``.
        edmm: whether memory is added on demand (needs SGX2).
        insecure: keys that give up a protection, with their values, in words.
    """

    text: bytes
    enclave_size: int
    threads: int
    edmm: bool
    insecure: tuple[str, ...]

    @classmethod
    def parse(cls, image: Image) -> "Manifest":
        """Read a manifest; only the keys named here are looked at.

        Raises:
            MalformedError: ``enclave.manifest.size``, ``enclave.manifest.syntax``, ``enclave.manifest.value``.
        """
        if len(image) > MAX_MANIFEST:
            raise MalformedError("enclave.manifest.size", f"expected at most {MAX_MANIFEST} bytes, seen {len(image)}")
        text = bytes(memoryview(image))
        tree = _tree(text)
        sgx = tree.get("sgx")
        if not isinstance(sgx, dict):
            raise MalformedError("enclave.manifest.value", "expected a table named sgx, found none")
        threads = sgx.get("max_threads", sgx.get("thread_num", _DEFAULT_THREADS))
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
            raise MalformedError("enclave.manifest.value", f"expected 1 to {MAX_THREADS} threads, seen {threads!r:.50}")
        return cls(
            text=text,
            enclave_size=_size(sgx.get("enclave_size", _DEFAULT_SIZE)),
            threads=threads,
            edmm=sgx.get("edmm_enable") is True,
            insecure=tuple(_insecure(tree)),
        )


def blocks(manifest: Manifest, libpal: ElfImage | None, sigstruct: SigStruct | None = None) -> tuple[EnclaveBlock, ...]:
    """The one block of a manifest; without libpal it has no layout.

    Raises:
        MalformedError: ``enclave.gramine.libpal``, ``enclave.gramine.size``, those of ``EnclaveLayout``.
    """
    if libpal is None:
        return (EnclaveBlock(name="manifest", sigstruct=sigstruct),)
    plan = _Plan(manifest, libpal)
    return (
        EnclaveBlock(
            name="manifest",
            sigstruct=sigstruct,
            layout=EnclaveLayout(size=manifest.enclave_size, ssa_frame_size=_SSA_FRAME_PAGES, runs=tuple(plan.runs())),
            summary=LayoutSummary(
                heap_pages=0 if manifest.edmm else plan.heap_pages,
                heap_pages_most=plan.heap_pages,
                stack_pages=_STACK_PAGES,
                threads=manifest.threads,
                threads_most=manifest.threads,
                dynamic_pages=plan.heap_pages if manifest.edmm else 0,
            ),
        ),
    )


def enclave(
    manifest: Manifest, libpal: ElfImage | None, sigstruct: SigStruct | None, *, defect: str = ""
) -> EnclaveFile:
    """A manifest as an enclave; ``defect`` says why there is no libpal.

    Raises:
        MalformedError: those of ``blocks``.
    """
    found = blocks(manifest, libpal, sigstruct)
    return EnclaveFile(kind=EnclaveKind.GRAMINE, blocks=found, insecure=manifest.insecure, defect=defect)


class _Plan:
    """Where everything lies: areas are placed from the top of the enclave downwards, in the order of loading."""

    def __init__(self, manifest: Manifest, libpal: ElfImage) -> None:
        self._manifest, self._libpal = manifest, libpal
        self._text_pages = pages_of(len(manifest.text) + 1)
        threads = manifest.threads
        self._top = manifest.enclave_size
        self._text = self._below(self._text_pages)
        self._ssa = self._below(threads * _SSA_FRAMES * _SSA_FRAME_PAGES)
        self._tcs = self._below(threads)
        self._tls = self._below(threads)
        self._stacks = [self._below(_STACK_PAGES) for _ in range(threads)]
        self._signal_stacks = [self._below(_SIGNAL_STACK_PAGES) for _ in range(threads)]
        self._pal = self._below(_span_pages(libpal))
        if self._pal < _HEAP_MIN:
            raise MalformedError(
                "enclave.gramine.size",
                f"an enclave of {manifest.enclave_size} bytes is too small for {threads} threads and its libpal",
                hint="raise sgx.enclave_size in the manifest",
            )

    @property
    def heap_pages(self) -> int:
        return (self._pal - _HEAP_MIN) // PAGE_SIZE

    def runs(self) -> Iterator[PageRun]:
        threads = range(self._manifest.threads)
        text = self._manifest.text.ljust(self._text_pages * PAGE_SIZE, b"\0")
        yield PageRun(offset=self._text, secinfo=_R, content=text)
        yield _zeros(self._ssa, len(threads) * _SSA_FRAMES * _SSA_FRAME_PAGES)
        yield PageRun(offset=self._tcs, secinfo=_TCS, content=b"".join(map(self._tcs_page, threads)))
        yield PageRun(offset=self._tls, secinfo=_RW, content=b"".join(map(self._tls_page, threads)))
        for stack in self._stacks:
            yield _zeros(stack, _STACK_PAGES)
        for stack in self._signal_stacks:
            yield _zeros(stack, _SIGNAL_STACK_PAGES)
        for segment in self._libpal.loads:
            yield from segment_runs(self._libpal, segment, base=self._pal)
        if self.heap_pages and not self._manifest.edmm:
            yield PageRun(offset=_HEAP_MIN, secinfo=_RWX, zero_pages=self.heap_pages)

    def _below(self, pages: int) -> int:
        self._top -= pages * PAGE_SIZE
        return self._top

    def _ssa_of(self, thread: int) -> int:
        return self._ssa + thread * _SSA_FRAMES * _SSA_FRAME_PAGES * PAGE_SIZE

    def _tcs_page(self, thread: int) -> bytes:
        return Tcs(
            ossa=self._ssa_of(thread),
            nssa=_SSA_FRAMES,
            oentry=self._pal + self._libpal.entry,
            ofs_base=0,
            ogs_base=self._tls + thread * PAGE_SIZE,
            fs_limit=_LIMIT,
            gs_limit=_LIMIT,
        ).build()

    def _tls_page(self, thread: int) -> bytes:
        ssa, signal_stack = self._ssa_of(thread), self._signal_stacks[thread]
        fields = {
            "self": self._tls + thread * PAGE_SIZE,
            "canary": _CANARY,
            "enclave_size": self._manifest.enclave_size,
            "tcs_offset": self._tcs + thread * PAGE_SIZE,
            "initial_stack": self._stacks[thread] + _STACK_PAGES * PAGE_SIZE,
            "signal_stack_low": signal_stack,
            "signal_stack_high": signal_stack + _SIGNAL_STACK_PAGES * PAGE_SIZE,
            "ssa": ssa,
            "gpr": ssa + _SSA_FRAME_PAGES * PAGE_SIZE - _GPR_SIZE,
            "manifest_size": len(self._manifest.text) + 1,
            "heap_min": _HEAP_MIN,
            "heap_max": self._pal,
        }
        page = bytearray(PAGE_SIZE)
        for name, value in fields.items():
            struct.pack_into("<Q", page, _TLS_FIELDS[name], value)
        return bytes(page)


def _zeros(offset: int, pages: int) -> PageRun:
    return PageRun(offset=offset, secinfo=_RW, content=ZERO_PAGE, copies=pages)


def _span_pages(libpal: ElfImage) -> int:
    loads = libpal.loads
    if not loads or min(segment.address for segment in loads) >= PAGE_SIZE:
        raise MalformedError(
            "enclave.gramine.libpal",
            "expected libpal.so with segments from address 0",
            hint="a libpal that is bound to an address (Gramine up to 1.4) is not supported",
        )
    return pages_of(max(segment.address + segment.memory_size for segment in loads))


def _tree(text: bytes) -> dict[str, object]:
    """The manifest as a tree; first without the long tables of files, as a whole only where that does not work."""
    if not any(mark in text for mark in _MULTI_LINE):
        try:
            return _parsed(_FILE_TABLES.sub(b"", text))
        except (ValueError, RecursionError):
            pass
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError("enclave.manifest.syntax", f"the manifest is not TOML: {str(error)[:200]}") from None


def _parsed(text: bytes) -> dict[str, object]:
    if len(text) > MAX_PARSED:
        hint = "write trusted files as [[sgx.trusted_files]] tables, as gramine-sgx-sign does"
        message = f"expected at most {MAX_PARSED} bytes besides the tables of trusted files, seen {len(text)}"
        raise MalformedError("enclave.manifest.size", message, hint=hint)
    if _DEEP_KEY.search(text):
        raise MalformedError("enclave.manifest.syntax", "expected keys of a few parts, seen one of more than 64")
    return tomllib.loads(text.decode())


def _size(value: object) -> int:
    """Bytes of ``256M`` and the like.

    Raises:
        MalformedError: ``enclave.manifest.value``.
    """
    match = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    size = int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10) * _SCALES.get(match[2], 1) if match else 0
    if size & (size - 1) or not 2 * PAGE_SIZE <= size <= _MAX_ENCLAVE:
        raise MalformedError(
            "enclave.manifest.value",
            f"sgx.enclave_size: expected a power of two up to {_MAX_ENCLAVE} such as 256M, seen {value!r:.50}",
        )
    return size


def _insecure(tree: dict[str, object]) -> Iterator[str]:
    """Keys that give up a protection: they carry ``insecure__`` in their name, or are one of two others."""
    places: list[tuple[str, object]] = [("", tree)]
    while places:
        path, value = places.pop()
        if isinstance(value, dict):
            places.extend((f"{path}.{key}" if path else str(key), child) for key, child in value.items())
        elif ("insecure__" in path and value) or (path == "sgx.file_check_policy" and value != "strict"):
            yield f"{path} = {value!r:.80}"
        elif path == "sgx.allowed_files" and isinstance(value, list) and value:
            yield f"sgx.allowed_files: {len(value)} files or folders without integrity"
        elif path == "sgx.debug" and value is True:
            yield f"{path} = true"
