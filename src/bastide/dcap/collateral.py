"""Collateral: what Intel publishes so that quotes of a platform can be judged.

Source: Intel PCS API v4; Intel SGX DCAP quote verification library, ``sgx_ql_qve_collateral_t``.
"""

from dataclasses import dataclass, fields
from hashlib import sha256

from bastide.errors import MalformedError

MAX_PART_SIZE = 1 << 20
"""Largest part, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """The five parts as served, none of them judged yet.

    Attributes:
        tcb_info: JSON with its signature, UTF-8.
        qe_identity: JSON with its signature, UTF-8.
        pck_crl: CRL of the CA that issued the PCK certificate; DER, PEM or hex.
        root_ca_crl: CRL of the root CA; DER, PEM or hex.
        tcb_signing_chain: certificates of the signer of both documents and of the root, PEM.

    Raises:
        MalformedError: ``collateral.part.size`` when a part is larger than 1 MiB.
    """

    tcb_info: bytes
    qe_identity: bytes
    pck_crl: bytes
    root_ca_crl: bytes
    tcb_signing_chain: bytes

    def __post_init__(self) -> None:
        for part in fields(self):
            size = len(getattr(self, part.name))
            if size > MAX_PART_SIZE:
                raise MalformedError(
                    "collateral.part.size", f"expected at most {MAX_PART_SIZE} bytes, seen {size}", where=part.name
                )


def collateral_hashes(collateral: Collateral) -> dict[str, str]:
    """SHA-256 of the parts in lower hex, under the names of the claim ``x-ms-sgx-collateral``.

    Both documents have one signing chain, whose revocations stand in the root's CRL; hence the equal pairs. The
    claim's seventh member, ``quotehash``, is the caller's: it knows which bytes it was sent.

    Source: Microsoft Azure Attestation, "Claims issued by Azure Attestation for SGX enclaves".
    """
    chain = sha256(collateral.tcb_signing_chain).hexdigest()
    crl = sha256(collateral.root_ca_crl).hexdigest()
    return {
        "qeidcertshash": chain,
        "qeidcrlhash": crl,
        "qeidhash": sha256(collateral.qe_identity).hexdigest(),
        "tcbinfocertshash": chain,
        "tcbinfocrlhash": crl,
        "tcbinfohash": sha256(collateral.tcb_info).hexdigest(),
    }
