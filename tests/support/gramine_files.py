"""Gramine's manifest, libpal.so and signature made from nothing: self-made vectors, for no public ones exist."""

import struct
from dataclasses import replace

from bastide.sgx.secs import Tcs
from bastide.sgx.sigstruct import sign
from support.enclave_files import DATA, PAGE, REG_R, REG_RW, REG_RWX, REG_RX, SEGMENTS, TCS, TEXT, Elf, PlainMeasurer
from support.sgx_values import signing_key, unsigned_sigstruct

LIBPAL = Elf(segments=SEGMENTS, entry=0x40).build()
LIBPAL_PAGES = 5
MANIFEST = """\
libos.entrypoint = "/bin/app"

[sgx]
enclave_size = "16M"
max_threads = {threads}
edmm_enable = {edmm}
file_check_policy = "strict"

[[sgx.trusted_files]]
uri = "file:/bin/app"
sha256 = "00"
"""


def manifest_text(threads: int = 2, edmm: bool = False) -> bytes:
    return MANIFEST.format(threads=threads, edmm=str(edmm).lower()).encode()


def expected(text: bytes, threads: int = 2, *, edmm: bool = False, size: int = 1 << 24) -> PlainMeasurer:
    """The layout in words of its description, area by area from the top."""
    measurer = PlainMeasurer(size, 4)
    top = size
    measured = text + b"\0"
    top -= -(-len(measured) // PAGE) * PAGE
    measurer.pages(top, REG_R, measured)
    ssa = top - threads * 8 * PAGE
    tcs = ssa - threads * PAGE
    tls = tcs - threads * PAGE
    stacks = [tls - (thread + 1) * 64 * PAGE for thread in range(threads)]
    signal_stacks = [stacks[-1] - (thread + 1) * 16 * PAGE for thread in range(threads)]
    pal = signal_stacks[-1] - LIBPAL_PAGES * PAGE
    measurer.pages(ssa, REG_RW, b"", threads * 8)
    for thread in range(threads):
        own, gs = ssa + thread * 8 * PAGE, tls + thread * PAGE
        page = Tcs(ossa=own, nssa=2, oentry=pal + 0x40, ofs_base=0, ogs_base=gs, fs_limit=0xFFF, gs_limit=0xFFF)
        measurer.pages(tcs + thread * PAGE, TCS, page.build())
    for thread in range(threads):
        own = ssa + thread * 8 * PAGE
        page_ = bytearray(PAGE)
        struct.pack_into("<QQ", page_, 0, tls + thread * PAGE, 0xBADBADBADBAD)
        struct.pack_into("<QQQ", page_, 272, size, tcs + thread * PAGE, stacks[thread] + 64 * PAGE)
        struct.pack_into("<QQ", page_, 304, signal_stacks[thread], signal_stacks[thread] + 16 * PAGE)
        struct.pack_into("<QQ", page_, 328, own, own + 4 * PAGE - 184)
        struct.pack_into("<QQQ", page_, 416, len(measured), 0x10000, pal)
        measurer.pages(tls + thread * PAGE, REG_RW, bytes(page_))
    for stack in stacks:
        measurer.pages(stack, REG_RW, b"", 64)
    for stack in signal_stacks:
        measurer.pages(stack, REG_RW, b"", 16)
    measurer.pages(pal, REG_RX, TEXT).pages(pal + 0x3000, REG_RW, bytes(0x100) + DATA).pages(pal + 0x4000, REG_RW, b"")
    return measurer if edmm else measurer.bare(0x10000, REG_RWX, (pal - 0x10000) // PAGE)


def signature(text: bytes, threads: int = 2, *, edmm: bool = False) -> bytes:
    """The ``.sig`` of a manifest and ``LIBPAL``."""
    enclave_hash = expected(text, threads, edmm=edmm).digest()
    return sign(replace(unsigned_sigstruct(), enclave_hash=enclave_hash), signing_key()).build()
