"""Which enclave a container of the lab starts: its program, its size, its signature. SIMULATION."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.sim.apps import App, app_of
from bastide.sim.faults import Fault
from bastide.sim.images import (
    EnclaveImage,
    Signing,
    build_image,
    changed_after_signing,
    heap_within,
    with_broken_signature,
)
from bastide.units import Bytes, pages_of, parse_quantity

_LARGEST_HEAP = 1 << 38


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Signers:
    """Keys that sign enclaves: the lab's own, which attestation trusts, and one that nobody trusts."""

    own: RSAPrivateKey
    stranger: RSAPrivateKey


def enclave_of(image: str, epc_asked: Bytes, *, signers: Signers, faults: frozenset[Fault]) -> tuple[App, EnclaveImage]:
    """The enclave that a container with this image and EPC request starts.

    Raises:
        MalformedError: ``image.*``: the reference cannot be read, or the request is too small for any enclave.
    """
    reference = ImageReference.parse(image)
    app = app_of(f"{reference.registry}/{reference.repository}")
    code = app.code()
    signing = Signing(
        key=signers.stranger if Fault.UNKNOWN_SIGNER in faults else signers.own,
        product_id=app.product_id,
        debug=Fault.DEBUG_ENCLAVE in faults,
    )
    heap = app.heap_pages or _tagged_heap(reference.tag) or heap_within(image, code, epc_asked)
    built = build_image(app.name, code, heap_pages=heap, signing=signing)
    if Fault.CHANGED_PAGE in faults:
        return app, changed_after_signing(built)
    return app, with_broken_signature(built) if Fault.BROKEN_SIGSTRUCT in faults else built


def _tagged_heap(tag: str | None) -> int | None:
    """Pages of heap where the image's tag is a size (``epc-eater:40Mi``); None where it is an ordinary tag."""
    if tag is None or not tag.endswith(("Ki", "Mi", "Gi")):
        return None
    try:
        size = parse_quantity(tag)
    except MalformedError:
        return None
    return pages_of(int(size)) if 0 < size <= _LARGEST_HEAP else None
