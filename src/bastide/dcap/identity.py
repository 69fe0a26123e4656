"""Enclave identity, version 2: which enclave may sign attestation keys, and how current it is.

Source: Intel PCS API v4, "Get Quoting Enclave Identity"; matching as in Intel's quote verification library.
"""

from dataclasses import dataclass
from datetime import datetime

from bastide.dcap.document import SignedDocument
from bastide.dcap.levels import UINT32_MAX, SvnLevel, highest_reached, svn_levels
from bastide.errors import MalformedError
from bastide.sgx.report import ReportBody
from bastide.sgx.types import MrSigner

_CODE = "qe.identity"
_VERSION = 2
_IDS = ("QE", "QVE", "TD_QE")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveIdentity:
    """An enclave identity document.

    Attributes:
        id: ``QE``, ``QVE`` or ``TD_QE``.
        issue_date: when Intel made it.
        next_update: when Intel replaces it at the latest.
        tcb_evaluation_data_number: grows with every TCB recovery event.
        misc_select: MISCSELECT that the report must have under the mask.
        misc_select_mask: which of its bits count.
        attributes: ATTRIBUTES that the report must have under the mask, 16 bytes.
        attributes_mask: which of its bits count; Intel's demand a clear DEBUG bit.
        mr_signer: signer of the enclave.
        isv_prod_id: product of that signer.
        levels: highest first, as Intel's library tries them whatever order the JSON has.
        signed: the bytes under the signature.
        signature: r and s, 64 bytes.
    """

    id: str
    issue_date: datetime
    next_update: datetime
    tcb_evaluation_data_number: int
    misc_select: int
    misc_select_mask: int
    attributes: bytes
    attributes_mask: bytes
    mr_signer: MrSigner
    isv_prod_id: int
    levels: tuple[SvnLevel, ...]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "EnclaveIdentity":
        """Read a document as served, ``{"enclaveIdentity": {...}, "signature": "..."}``. Judges no signature.

        Raises:
            MalformedError: ``qe.identity.format`` (no JSON, no signature), ``qe.identity.version`` or
                ``qe.identity.invalid`` (a member of the body is absent or wrong).
        """
        # In this document, unlike TCB info, the library calls an absent member invalid, except within a level.
        document = SignedDocument.parse(raw, member="enclaveIdentity", code=_CODE, absent="invalid")
        if document.signature is None:
            raise MalformedError(f"{_CODE}.format", "expected a signature, seen none", where="signature")
        body = document.body
        name = body.text("id")
        if name not in _IDS:
            body.invalid("id", f"one of {', '.join(_IDS)}", name)
        version = body.unsigned("version", UINT32_MAX)
        if version != _VERSION:
            raise MalformedError(f"{_CODE}.version", f"expected version {_VERSION}, seen {version}")
        return cls(
            id=name,
            issue_date=body.date("issueDate"),
            next_update=body.date("nextUpdate"),
            tcb_evaluation_data_number=body.unsigned("tcbEvaluationDataNumber", UINT32_MAX),
            misc_select=int.from_bytes(body.hex("miscselect", 4), "little"),
            misc_select_mask=int.from_bytes(body.hex("miscselectMask", 4), "little"),
            attributes=body.hex("attributes", 16),
            attributes_mask=body.hex("attributesMask", 16),
            mr_signer=MrSigner(body.hex("mrsigner", 32)),
            isv_prod_id=body.unsigned("isvprodid", UINT32_MAX),
            signature=document.signature_bytes(),
            levels=svn_levels(body, UINT32_MAX, dated=True),
            signed=document.signed,
        )

    def mismatch(self, report: ReportBody) -> tuple[str, str, str] | None:
        """The first field in which ``report`` is not this enclave: name, expected, seen; None if it is."""
        attributes = bytes(
            have & mask for have, mask in zip(report.attributes.build(), self.attributes_mask, strict=True)
        )
        misc_select = report.misc_select & self.misc_select_mask
        fields = (
            ("MISCSELECT", f"{self.misc_select:08x}", f"{misc_select:08x}"),
            ("ATTRIBUTES", self.attributes.hex(), attributes.hex()),
            ("MRSIGNER", self.mr_signer.hex(), report.mr_signer.hex()),
            ("ISVPRODID", str(self.isv_prod_id), str(report.isv_prod_id)),
        )
        return next((field for field in fields if field[1] != field[2]), None)

    def level_for(self, isv_svn: int) -> SvnLevel | None:
        """The highest level that ``isv_svn`` reaches, or None."""
        return highest_reached(self.levels, isv_svn)
