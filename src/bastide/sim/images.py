"""Enclave images of the lab: how a small program becomes pages, a measurement and a signature. SIMULATION.

Layout from the base: code (measured, R X), heap (not measured, R W), one page left out as a guard, stack
(measured, R W, filled with 0xCC), TCS, two SSA frames. The order is that of loading, so it is part of MRENCLAVE.
"""

from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from bastide.catalogue.epc import EpcNeed, epc_need
from bastide.enclave.layout import EnclaveLayout, PageRun
from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags, Attributes, Xfrm
from bastide.sgx.secs import PageFlags, PageType, SecInfo, Secs, Tcs
from bastide.sgx.sigstruct import SigStruct, sign
from bastide.units import PAGE_SIZE

STACK_PAGES = 4
SSA_FRAMES = 2
_STACK_FILL = b"\xcc" * PAGE_SIZE

_CODE = SecInfo(page_flags=PageFlags.R | PageFlags.X, page_type=PageType.REG)
_DATA = SecInfo(page_flags=PageFlags.R | PageFlags.W, page_type=PageType.REG)
_TCS = SecInfo(page_flags=PageFlags(0), page_type=PageType.TCS)
# Every flag but INIT, which EINIT sets itself. (`~INIT` would cover named flags only.)
_FORCED_FLAGS = AttributeFlags(0xFFFF_FFFF_FFFF_FFFE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveImage:
    """A signed enclave, ready to load.

    Attributes:
        name: of the program.
        secs: what ECREATE gets.
        runs: pages in the order of loading.
        heap_offset: bytes from the base to the heap.
        heap_pages: its size.
        sigstruct: the signature.
    """

    name: str
    secs: Secs
    runs: tuple[PageRun, ...]
    heap_offset: int
    heap_pages: int
    sigstruct: SigStruct

    @property
    def epc(self) -> EpcNeed:
        """EPC that it takes when loaded."""
        return epc_need(sum(run.pages for run in self.runs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How an image is signed.

    Attributes:
        key: RSA-3072 with exponent 3.
        product_id: ISVPRODID, 16 bits.
        svn: ISVSVN, 16 bits.
        date: yyyymmdd in binary-coded decimal.
        debug: whether the enclave has the DEBUG attribute.
        provision: whether it has PROVISIONKEY.
    """

    key: RSAPrivateKey
    product_id: int
    svn: int = 1
    date: int = 0x20261123
    debug: bool = False
    provision: bool = False


def build_image(name: str, code: bytes, *, heap_pages: int, signing: Signing) -> EnclaveImage:
    """Lay out, measure and sign one enclave.

    Args:
        name: for people.
        code: bytes of its program; padded to whole pages.
        heap_pages: heap of 4 KiB pages that are added without being measured.
        signing: key and identity.
    """
    runs, heap_offset = _layout(code, heap_pages)
    end = runs[-1].offset + len(runs[-1].content)
    attributes = _attributes(signing)
    secs = Secs(size=1 << (end - 1).bit_length(), ssa_frame_size=1, attributes=attributes)
    unsigned = SigStruct(
        date=signing.date,
        attributes=attributes,
        # All flags are forced: in particular, an enclave signed without DEBUG cannot be started with it.
        attribute_mask=Attributes(flags=_FORCED_FLAGS, xfrm=int(Xfrm.X87 | Xfrm.SSE)),
        # MRENCLAVE on the fast path; the lab's CPU computes it again, instruction by instruction.
        enclave_hash=EnclaveLayout(size=secs.size, ssa_frame_size=secs.ssa_frame_size, runs=runs).measure().digest(),
        isv_prod_id=signing.product_id,
        isv_svn=signing.svn,
    )
    return EnclaveImage(
        name=name,
        secs=secs,
        runs=runs,
        heap_offset=heap_offset,
        heap_pages=heap_pages,
        sigstruct=sign(unsigned, signing.key),
    )


def heap_within(name: str, code: bytes, epc_bytes: int) -> int:
    """The largest heap, in pages, of an enclave that takes at most ``epc_bytes`` of EPC with everything.

    Raises:
        MalformedError: ``image.epc.small``: not even an empty heap fits.
    """
    runs, _ = _layout(code, 1)
    fixed = sum(len(run.content) // PAGE_SIZE for run in runs)
    pages = epc_bytes // PAGE_SIZE
    # A little too few at first: VA pages were counted for all of the budget, themselves among it.
    heap = pages - fixed - epc_need(pages).version_arrays - 1
    while epc_need(fixed + heap + 1).pages <= pages:
        heap += 1
    if heap < 1:
        raise MalformedError(
            "image.epc.small",
            f"{name}: {epc_bytes} bytes of EPC cannot hold an enclave; the smallest takes {epc_need(fixed + 1).size}",
            hint=f"ask for at least {epc_need(fixed + 1).limit}",
        )
    return heap


def _attributes(signing: Signing) -> Attributes:
    flags = AttributeFlags.MODE64BIT
    if signing.debug:
        flags |= AttributeFlags.DEBUG
    if signing.provision:
        flags |= AttributeFlags.PROVISIONKEY
    return Attributes(flags=flags, xfrm=int(Xfrm.X87 | Xfrm.SSE))


def _layout(code: bytes, heap_pages: int) -> tuple[tuple[PageRun, ...], int]:
    text = code.ljust(-(-max(len(code), 1) // PAGE_SIZE) * PAGE_SIZE, b"\0")
    heap = len(text)
    stack = heap + heap_pages * PAGE_SIZE + PAGE_SIZE
    tcs = stack + STACK_PAGES * PAGE_SIZE
    ssa = tcs + PAGE_SIZE
    thread = Tcs(ossa=ssa, nssa=SSA_FRAMES, oentry=0, ofs_base=ssa, ogs_base=ssa)
    return (
        PageRun(offset=0, secinfo=_CODE, content=text),
        *((PageRun(offset=heap, secinfo=_DATA, zero_pages=heap_pages),) if heap_pages else ()),
        PageRun(offset=stack, secinfo=_DATA, content=_STACK_FILL * STACK_PAGES),
        PageRun(offset=tcs, secinfo=_TCS, content=thread.build()),
        PageRun(offset=ssa, secinfo=_DATA, content=bytes(SSA_FRAMES * PAGE_SIZE)),
    ), heap


def changed_after_signing(image: EnclaveImage) -> EnclaveImage:
    """The image with one byte of its code changed, under its old signature."""
    first = image.runs[0]
    return replace(
        image, runs=(replace(first, content=bytes([first.content[0] ^ 1]) + bytes(first.content[1:])), *image.runs[1:])
    )


def with_broken_signature(image: EnclaveImage) -> EnclaveImage:
    """The image with one bit of its RSA signature flipped."""
    signature = bytes([image.sigstruct.signature[0] ^ 1]) + image.sigstruct.signature[1:]
    return replace(image, sigstruct=replace(image.sigstruct, signature=signature))
