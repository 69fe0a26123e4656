"""TCB info and QE identity: signed JSON with Intel's fields, in Intel's order and spelling.

Source: Intel "SGX PCS API" version 4, "Get TCB Info V4" and "Get Quoting Enclave Identity V4".
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from bastide.sgx.types import Fmspc, MrSigner
from bastide.sim.intel.certificates import Window

UP_TO_DATE = "UpToDate"

QE_MR_SIGNER = MrSigner(hashlib.sha256(b"Bastide SIMULATION quoting enclave, not Intel").digest())
"""MRSIGNER of the make-believe quoting enclave: no real enclave can have it."""

LIFETIME = timedelta(days=30)
_TCB_DATE = datetime.fromisoformat("2024-03-13T00:00:00Z")
_EVALUATION_NUMBER = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One level of TCB info.

    Attributes:
        components: component SVNs; 16 of them in a true document.
        pce_svn: least PCESVN of the level.
        status: Intel's word, such as ``OutOfDate``.
        date: tcbDate.
        advisory_ids: Intel's advisories; the field is left out when there are none.
        tdx_components: TDX component SVNs, 16 in a document for TDX; None in one for SGX.
    """

    components: tuple[int, ...]
    pce_svn: int
    status: str = UP_TO_DATE
    date: datetime = _TCB_DATE
    advisory_ids: tuple[str, ...] = ()
    tdx_components: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, object]:
        """The level as it stands in the document."""
        components = [{"svn": svn} for svn in self.components]
        tcb: dict[str, object] = {"sgxtcbcomponents": components, "pcesvn": self.pce_svn}
        if self.tdx_components is not None:
            tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in self.tdx_components]
        return {"tcb": tcb, **_rating(self.status, self.date, self.advisory_ids)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxModuleDocument:
    """Signer and attributes of a TDX module; for a module with a version also its identity.

    Attributes:
        mr_signer: 48 bytes.
        attributes: 8 bytes, with its mask.
        id: ``TDX_`` and the major version in two hex digits; empty for the member ``tdxModule``.
        levels: by minor version, best first, as Intel lists them.
    """

    mr_signer: bytes = bytes(48)
    attributes: bytes = bytes(8)
    attributes_mask: bytes = b"\xff" * 8
    id: str = ""
    levels: tuple["QeLevel", ...] = ()

    def as_json(self) -> dict[str, object]:
        """The module as it stands in the document."""
        module: dict[str, object] = {
            "mrsigner": self.mr_signer.hex().upper(),
            "attributes": self.attributes.hex().upper(),
            "attributesMask": self.attributes_mask.hex().upper(),
        }
        return {"id": self.id, **module, "tcbLevels": [level.as_json() for level in self.levels]} if self.id else module


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfoDocument:
    """TCB info version 3 of one FMSPC.

    Attributes:
        window: issueDate and nextUpdate.
        fmspc: the platforms meant, 6 bytes.
        pce_id: the PCE meant, 2 bytes.
        levels: best first, as Intel lists them.
        evaluation_data_number: tcbEvaluationDataNumber.
        id: ``SGX`` or ``TDX``; another word is for tests.
        version: 3; another number is for tests.
        tdx_module: the module without a version; None in a document for SGX.
        tdx_module_identities: the modules with one.
    """

    window: Window
    fmspc: Fmspc
    levels: tuple[TcbLevel, ...]
    pce_id: bytes = bytes(2)
    evaluation_data_number: int = _EVALUATION_NUMBER
    id: str = "SGX"
    version: int = 3
    tdx_module: TdxModuleDocument | None = None
    tdx_module_identities: tuple[TdxModuleDocument, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The inner object, the one that is signed."""
        tdx: dict[str, object] = {} if self.tdx_module is None else {"tdxModule": self.tdx_module.as_json()}
        if self.tdx_module_identities:
            tdx["tdxModuleIdentities"] = [identity.as_json() for identity in self.tdx_module_identities]
        return {
            **_head(self.id, self.version, self.window),
            "fmspc": self.fmspc.hex().upper(),
            "pceId": self.pce_id.hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": self.evaluation_data_number,
            **tdx,
            "tcbLevels": [level.as_json() for level in self.levels],
        }

    def sign(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """The signed document as the service hands it out."""
        return sign_document("tcbInfo", self.as_json(), key)


@dataclass(frozen=True, slots=True, kw_only=True)
class QeLevel:
    """One level of QE identity: least ISVSVN, status, date and advisories as in :class:`TcbLevel`."""

    isv_svn: int
    status: str = UP_TO_DATE
    date: datetime = _TCB_DATE
    advisory_ids: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The level as it stands in the document."""
        return {"tcb": {"isvsvn": self.isv_svn}, **_rating(self.status, self.date, self.advisory_ids)}


@dataclass(frozen=True, slots=True, kw_only=True)
class QeIdentityDocument:
    """QE identity version 2: what a genuine quoting enclave's report looks like.

    Attributes:
        window: issueDate and nextUpdate.
        levels: best first, as Intel lists them.
        mr_signer: 32 bytes.
        isv_prod_id: 1 for the SGX quoting enclave, 2 for the TDX one.
        miscselect: 4 bytes as in the report, with its mask.
        attributes: flags and XFRM, 16 bytes as in the report, with its mask; the mask leaves XFRM and one flag free.
        evaluation_data_number: tcbEvaluationDataNumber.
        id: ``QE`` for SGX, ``TD_QE`` for TDX; another word is for tests.
        version: 2; another number is for tests.
    """

    window: Window
    levels: tuple[QeLevel, ...] = (QeLevel(isv_svn=8),)
    mr_signer: MrSigner = QE_MR_SIGNER
    isv_prod_id: int = 1
    miscselect: bytes = bytes(4)
    miscselect_mask: bytes = b"\xff" * 4
    attributes: bytes = b"\x11" + bytes(15)
    attributes_mask: bytes = b"\xfb" + b"\xff" * 7 + bytes(8)
    evaluation_data_number: int = _EVALUATION_NUMBER
    id: str = "QE"
    version: int = 2

    def as_json(self) -> dict[str, object]:
        """The inner object, the one that is signed."""
        return {
            **_head(self.id, self.version, self.window),
            "tcbEvaluationDataNumber": self.evaluation_data_number,
            "miscselect": self.miscselect.hex().upper(),
            "miscselectMask": self.miscselect_mask.hex().upper(),
            "attributes": self.attributes.hex().upper(),
            "attributesMask": self.attributes_mask.hex().upper(),
            "mrsigner": self.mr_signer.hex().upper(),
            "isvprodid": self.isv_prod_id,
            "tcbLevels": [level.as_json() for level in self.levels],
        }

    def sign(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """The signed document as the service hands it out."""
        return sign_document("enclaveIdentity", self.as_json(), key)


def sign_document(name: str, body: Mapping[str, object], key: ec.EllipticCurvePrivateKey) -> bytes:
    """``body`` under ``name`` in compact JSON, with ``key``'s raw signature (r || s, hex) over exactly its bytes."""
    text = json.dumps(body, separators=(",", ":"))
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
    return f'{{"{name}":{text},"signature":"{r:064x}{s:064x}"}}'.encode()


def iso(at: datetime) -> str:
    """A UTC time as PCS documents write it, whole seconds: ``2025-06-19T10:56:11Z``."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _head(document_id: str, version: int, window: Window) -> dict[str, object]:
    return {
        "id": document_id,
        "version": version,
        "issueDate": iso(window.start),
        "nextUpdate": iso(window.end),
    }


def _rating(status: str, date: datetime, advisory_ids: tuple[str, ...]) -> dict[str, object]:
    rating: dict[str, object] = {"tcbDate": iso(date), "tcbStatus": status}
    return {**rating, "advisoryIDs": list(advisory_ids)} if advisory_ids else rating
