"""From an enclave that was found in an image to what a statement says of it."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import and_, or_

from bastide.catalogue.epc import epc_need
from bastide.enclave.found import Found
from bastide.enclave.image import EnclaveFile
from bastide.enclave.measure import Measured
from bastide.enclave.statement import EnclaveClaim
from bastide.errors import UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.types import Svn


def claim_of(path: str, enclave: EnclaveFile) -> EnclaveClaim | None:
    """What the enclave at ``path`` says of itself: identity of its first signature, EPC of its largest block.

    None when it is not signed.
    """
    all_signed = [block.sigstruct for block in enclave.blocks if block.sigstruct is not None]
    if not all_signed:
        return None
    signed = all_signed[0]
    sizes = [epc_need(block.layout.pages).size for block in enclave.blocks if block.layout is not None]
    return EnclaveClaim(
        path=path,
        kind=enclave.kind,
        mr_enclave=signed.enclave_hash,
        mr_signer=signed.mr_signer,
        product_id=signed.isv_prod_id,
        svn=Svn(signed.isv_svn),
        epc=max(sizes, default=None),
        attributes=_joined(or_, (one.attributes for one in all_signed)),
        attribute_mask=_joined(and_, (one.attribute_mask for one in all_signed)),
    )


def _joined(join: Callable[[int, int], int], values: Iterable[Attributes]) -> Attributes:
    """Which signature starts the enclave nobody can say: what any sets counts as set, what any leaves open as open."""
    pairs = [(int(one.flags), one.xfrm) for one in values]
    flags, xfrm = (reduce(join, column) for column in zip(*pairs, strict=True))
    return Attributes(flags=AttributeFlags(flags), xfrm=xfrm)


def vouched_claim(found: Found, enclave: EnclaveFile, measured: Sequence[Measured]) -> EnclaveClaim:
    """The same, for a statement that somebody puts a name to: nothing is stated that was not seen to be so.

    Raises:
        UntrustedError: ``enclave.statement.unsigned``, ``enclave.statement.signature``,
            ``enclave.statement.measurement`` (another, or not computable), ``enclave.statement.blocks``.
    """
    claim = claim_of(found.path, enclave)
    if claim is None or any(block.sigstruct is None for block in enclave.blocks):
        raise _refusal("unsigned", found, "it is not signed", "sign it first, then make the image and the statement")
    if not all(one.signature_valid for one in measured):
        raise _refusal("signature", found, "its signature is not valid", "sign it again")
    if not all(one.matches for one in measured):
        hint = enclave.note or "the file was changed after signing"
        raise _refusal("measurement", found, "its measurement is not what was signed, or cannot be computed", hint)
    if (
        len({block.sigstruct and (block.sigstruct.mr_signer, block.sigstruct.enclave_hash) for block in enclave.blocks})
        > 1
    ):
        raise _refusal("blocks", found, "its blocks are signed for different enclaves", "sign it again with one tool")
    return claim


def _refusal(what: str, found: Found, message: str, hint: str) -> UntrustedError:
    return UntrustedError(
        f"enclave.statement.{what}", f"no statement about this enclave: {message}", hint=hint, where=found.path
    )
