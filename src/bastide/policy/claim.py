"""A claim: what a policy reads and writes.

Source: Azure Attestation documentation, "Claim and claim rules"; reference attestation-service.md section 3.
"""

from dataclasses import dataclass

from bastide.policy.syntax import Property

ATTESTATION_SERVICE = "AttestationService"
ATTESTATION_POLICY = "AttestationPolicy"
CUSTOM_CLAIM = "CustomClaim"
ISSUERS = (ATTESTATION_SERVICE, ATTESTATION_POLICY, CUSTOM_CLAIM)

STRING, INTEGER, BOOLEAN = "String", "Integer", "Boolean"
VALUE_TYPES = (STRING, INTEGER, BOOLEAN)

Scalar = str | int | bool


def value_type_of(value: Scalar) -> str:
    """The language's name of a value's type: ``String``, ``Integer`` or ``Boolean``."""
    if isinstance(value, bool):  # before int: Python's bool is one
        return BOOLEAN
    return INTEGER if isinstance(value, int) else STRING


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One statement about the evidence.

    Attributes:
        type: the claim's name, such as ``x-ms-sgx-mrsigner``.
        value: String, Integer or Boolean of the language.
        issuer: who said it: ``AttestationService`` (from the evidence), ``AttestationPolicy`` (added by a rule) or
            ``CustomClaim`` (sent by the client; the default).
        read_only: a rule may ask for it and compute with it, and may not issue it or what it computes from it. No
            claim of SGX evidence is read-only; Azure's ``pcrs`` of a TPM is.
    """

    type: str
    value: Scalar
    issuer: str = CUSTOM_CLAIM
    read_only: bool = False

    @property
    def value_type(self) -> str:
        """``String``, ``Integer`` or ``Boolean``."""
        return value_type_of(self.value)

    def read(self, prop: Property) -> Scalar:
        """The claim's ``type``, ``value``, ``valueType`` or ``issuer``."""
        match prop:
            case Property.TYPE:
                return self.type
            case Property.VALUE:
                return self.value
            case Property.VALUE_TYPE:
                return self.value_type
            case Property.ISSUER:
                return self.issuer
