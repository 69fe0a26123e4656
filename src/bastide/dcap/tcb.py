"""TCB info, versions 2 and 3: which state of a platform Intel calls how.

Source: Intel PCS API v4, "Get TCB Info" (version 3) and v3 (version 2); Intel SGX DCAP ECDSA quoting library API,
"TCB status"; matching as in Intel's quote verification library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bastide.dcap.document import Fields, SignedDocument
from bastide.sgx.types import Fmspc

COMPONENT_COUNT = 16
"""Component SVNs in a TCB: always 16, and a shorter list is an error, never a shorter comparison."""
_CODE = "tcb.info"
_MAX_LEVELS = 1024
_MAX_ADVISORIES = 1024
_UINT32_MAX = (1 << 32) - 1
_VERSIONS = (2, 3)
_IDS = ("SGX", "TDX")


class TcbStatus(StrEnum):
    """What Intel says of a TCB level; any other word is an error."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """The lowest SVNs of one level and what Intel says of it.

    Attributes:
        components: 16 component SVNs, 0..255 each.
        pce_svn: SVN of the provisioning certification enclave.
        tdx_components: 16 TDX component SVNs in a TDX document, else empty.
        status: Intel's word.
        date: last instant whose publications this level takes care of (``tcbDate``).
        advisory_ids: security advisories that apply at this level.
    """

    components: tuple[int, ...]
    pce_svn: int
    tdx_components: tuple[int, ...]
    status: TcbStatus
    date: datetime
    advisory_ids: tuple[str, ...]

    @property
    def rank(self) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
        """The order in which Intel's library tries levels, whatever order the JSON has."""
        return self.components, self.pce_svn, self.tdx_components

    def is_reached_by(self, components: Sequence[int], pce_svn: int) -> bool:
        """True if every SGX component SVN and the PCE SVN are at least this level's."""
        return pce_svn >= self.pce_svn and all(
            have >= need for have, need in zip(components, self.components, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """A TCB info document.

    Attributes:
        version: 2 or 3.
        id: ``SGX`` or ``TDX`` (version 2 is always SGX).
        issue_date: when Intel made it.
        next_update: when Intel replaces it at the latest.
        fmspc: the platform family it speaks of.
        pce_id: PCE identity, 2 bytes.
        tcb_evaluation_data_number: grows with every TCB recovery event.
        levels: highest first.
        signed: the bytes under the signature.
        signature: r and s, 64 bytes.
    """

    version: int
    id: str
    issue_date: datetime
    next_update: datetime
    fmspc: Fmspc
    pce_id: bytes
    tcb_evaluation_data_number: int
    levels: tuple[TcbLevel, ...]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "TcbInfo":
        """Read a document as served, ``{"tcbInfo": {...}, "signature": "..."}``. Judges no signature.

        Raises:
            MalformedError: ``tcb.info.format`` (not such a document, a member is absent) or ``tcb.info.invalid``
                (a member has a wrong value, levels repeat, not exactly 16 components).
        """
        document = SignedDocument.parse(raw, member="tcbInfo", code=_CODE)
        body = document.body
        if document.signature is None:
            body.invalid("signature", "a signature", "none")
        version, tee = _kind(body)
        return cls(
            version=version,
            id=tee,
            issue_date=body.date("issueDate"),
            next_update=body.date("nextUpdate"),
            fmspc=Fmspc(body.hex("fmspc", 6)),
            pce_id=body.hex("pceId", 2),
            signature=document.signature_bytes(),
            tcb_evaluation_data_number=_evaluation_data_number(body),
            levels=_levels(body, version, tee),
            signed=document.signed,
        )

    def level_for(self, components: Sequence[int], pce_svn: int) -> TcbLevel | None:
        """The highest level that the SVNs reach, or None.

        Args:
            components: the 16 component SVNs of the PCK certificate.
            pce_svn: its PCE SVN.
        """
        return next((level for level in self.levels if level.is_reached_by(components, pce_svn)), None)


def _kind(body: Fields) -> tuple[int, str]:
    version = body.unsigned("version", _UINT32_MAX)
    if version not in _VERSIONS:
        body.invalid("version", "2 or 3", version)
    tee = body.text("id") if version == 3 else "SGX"
    if tee not in _IDS:
        body.invalid("id", "SGX or TDX", tee)
    return version, tee


def _evaluation_data_number(body: Fields) -> int:
    if body.unsigned("tcbType", _UINT32_MAX) != 0:
        body.invalid("tcbType", "0, the only way of composing a TCB that is defined", "another")
    return body.unsigned("tcbEvaluationDataNumber", _UINT32_MAX)


def _levels(body: Fields, version: int, tee: str) -> tuple[TcbLevel, ...]:
    if "tcbLevels" not in body:
        body.invalid("tcbLevels", "a list", "none")
    levels = [_level(item, version, tee) for item in body.children("tcbLevels", _MAX_LEVELS)]
    if not levels or len({level.rank for level in levels}) != len(levels):
        body.invalid("tcbLevels", "different levels, at least one", f"{len(levels)} with repetitions")
    return tuple(sorted(levels, key=lambda level: level.rank, reverse=True))


def _level(fields: Fields, version: int, tee: str) -> TcbLevel:
    date, status, advisory_ids = level_facts(fields)
    tcb = fields.child("tcb")
    return TcbLevel(
        components=_components(tcb, "sgxtcbcomponents") if version == 3 else _components_v2(tcb),
        pce_svn=tcb.unsigned("pcesvn", _UINT32_MAX),
        tdx_components=_components(tcb, "tdxtcbcomponents") if tee == "TDX" else (),
        status=status,
        date=date,
        advisory_ids=advisory_ids,
    )


def level_facts(fields: Fields) -> tuple[datetime, TcbStatus, tuple[str, ...]]:
    """``tcbDate``, ``tcbStatus`` and ``advisoryIDs`` of a level: alike in TCB info and enclave identity."""
    date = fields.date("tcbDate")
    word = fields.text("tcbStatus")
    try:
        status = TcbStatus(word)
    except ValueError:
        fields.invalid("tcbStatus", f"one of {', '.join(TcbStatus)}", word)
    return date, status, fields.texts("advisoryIDs", _MAX_ADVISORIES)


def _components(tcb: Fields, name: str) -> tuple[int, ...]:
    items = tcb.children(name, COMPONENT_COUNT)
    if len(items) != COMPONENT_COUNT:
        tcb.invalid(name, f"{COMPONENT_COUNT} components", f"{len(items)}")
    return tuple(item.unsigned("svn", 255) for item in items)


def _components_v2(tcb: Fields) -> tuple[int, ...]:
    return tuple(tcb.unsigned(f"sgxtcbcomp{i:02}svn", 255) for i in range(1, COMPONENT_COUNT + 1))
