"""Things that can be made to go wrong in the lab, each to see how it is refused. SIMULATION."""

from enum import StrEnum
from types import MappingProxyType


class Fault(StrEnum):
    """What to break, by the name that ``bastide lab run --fault`` takes."""

    DEBUG_ENCLAVE = "debug-enclave"
    UNKNOWN_SIGNER = "unknown-signer"
    BROKEN_SIGSTRUCT = "broken-sigstruct"
    CHANGED_PAGE = "changed-page"
    TAMPERED_QUOTE = "tampered-quote"
    FOREIGN_RUNTIME_DATA = "foreign-runtime-data"
    REVOKED_PCK = "revoked-pck"
    EXPIRED_PCK = "expired-pck"
    EXPIRED_COLLATERAL = "expired-collateral"
    OUT_OF_DATE_TCB = "out-of-date-tcb"


WHAT_BREAKS = MappingProxyType(
    {
        Fault.DEBUG_ENCLAVE: "enclaves are signed and started as debug enclaves",
        Fault.UNKNOWN_SIGNER: "enclaves are signed by a key that the attestation policy does not name",
        Fault.BROKEN_SIGSTRUCT: "one bit of every enclave's signature is flipped",
        Fault.CHANGED_PAGE: "one byte of every enclave's code is changed after signing",
        Fault.TAMPERED_QUOTE: "one bit of every quote's report is flipped on its way",
        Fault.FOREIGN_RUNTIME_DATA: "evidence is presented with somebody else's runtime data",
        Fault.REVOKED_PCK: "the PCK certificate of every platform is on the PCK CRL",
        Fault.EXPIRED_PCK: "the PCK certificate of every platform ended yesterday",
        Fault.EXPIRED_COLLATERAL: "TCB info, QE identity and CRLs ended some days ago",
        Fault.OUT_OF_DATE_TCB: "every platform's TCB is below the newest level",
    }
)
"""One line about each fault, for the help text and the report."""
