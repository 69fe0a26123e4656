"""TCB info, versions 2 and 3: which state of a platform Intel calls how.

Source: Intel PCS API v4, "Get TCB Info" (version 3) and v3 (version 2); Intel SGX DCAP ECDSA quoting library API,
"TCB status"; matching as in Intel's quote verification library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bastide.dcap.document import Fields, SignedDocument
from bastide.dcap.levels import MAX_LEVELS, PLATFORM_STATUSES, UINT32_MAX, TcbStatus, level_facts
from bastide.dcap.tdx_module import MAX_IDENTITIES, TdxModule, TdxModuleIdentity
from bastide.sgx.types import Fmspc

COMPONENT_COUNT = 16
"""Component SVNs in a TCB: always 16, and a shorter list is an error, never a shorter comparison."""
_CODE = "tcb.info"
_VERSIONS = (2, 3)
SGX, TDX = "SGX", "TDX"
_TDX_MEMBERS = ("tdxModule", "tdxModuleIdentities")
_MINOR, _MAJOR = 0, 1
"""Places of the TDX module's version in TEE_TCB_SVN."""


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

    def is_reached_by(self, components: Sequence[int], pce_svn: int, tee_tcb_svn: bytes | None = None) -> bool:
        """True if every SVN is at least this level's.

        Args:
            components: 16 SGX component SVNs.
            pce_svn: the PCE SVN.
            tee_tcb_svn: 16 TDX component SVNs; None for SGX. Where they name a module version, that is judged by
                the module's identity and not here.
        """
        if pce_svn < self.pce_svn or not _reaches(components, self.components):
            return False
        if tee_tcb_svn is None:
            return True
        first = 2 if tee_tcb_svn[_MAJOR] > 0 else 0
        return _reaches(tee_tcb_svn[first:], self.tdx_components[first:])


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
        tdx_module: the TDX module of the first generation; None in an SGX document.
        tdx_module_identities: those of later generations, by major version.
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
    tdx_module: TdxModule | None
    tdx_module_identities: tuple[TdxModuleIdentity, ...]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "TcbInfo":
        """Read a document as served, ``{"tcbInfo": {...}, "signature": "..."}``. Judges no signature.

        Raises:
            MalformedError: ``tcb.info.format`` (not such a document, a member is absent, the SVNs of a level are not
                what they must be) or ``tcb.info.invalid`` (another member has a wrong value, levels repeat, a
                module stands where there can be none).
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
            tdx_module=_tdx_module(body, version, tee),
            tdx_module_identities=_tdx_module_identities(body, tee),
            levels=_levels(body, version, tee),
            signed=document.signed,
        )

    def level_for(self, components: Sequence[int], pce_svn: int, tee_tcb_svn: bytes | None = None) -> TcbLevel | None:
        """The highest level that the SVNs reach, or None.

        Args:
            components: the 16 component SVNs of the PCK certificate.
            pce_svn: its PCE SVN.
            tee_tcb_svn: the 16 SVNs of a TD report; None for SGX.
        """
        return next((level for level in self.levels if level.is_reached_by(components, pce_svn, tee_tcb_svn)), None)

    def module_identity(self, major: int) -> TdxModuleIdentity | None:
        """The identity of a major version of the TDX module; None when there is none, as for the first (0)."""
        name = f"TDX_{major:02X}"
        return next((each for each in self.tdx_module_identities if major and each.id.upper() == name), None)


def module_version(tee_tcb_svn: bytes) -> tuple[int, int]:
    """Major and minor version of the TDX module; major 0 is the first generation, which has no identity."""
    return tee_tcb_svn[_MAJOR], tee_tcb_svn[_MINOR]


def _reaches(have: Sequence[int], need: Sequence[int]) -> bool:
    """True if each of ``have`` is at least its counterpart.

    Raises:
        ValueError: they are not of one length: a fault of ours, never a shorter comparison.
    """
    return all(one >= other for one, other in zip(have, need, strict=True))


def _kind(body: Fields) -> tuple[int, str]:
    version = body.unsigned("version", UINT32_MAX)
    if version not in _VERSIONS:
        body.invalid("version", "2 or 3", version)
    tee = body.text("id") if version == 3 else SGX
    if tee not in (SGX, TDX):
        body.invalid("id", "SGX or TDX", tee)
    return version, tee


def _evaluation_data_number(body: Fields) -> int:
    if "tcbLevels" not in body:
        body.invalid("tcbLevels", "a list", "none")
    if body.unsigned("tcbType", UINT32_MAX) != 0:
        body.invalid("tcbType", "0, the only way of composing a TCB that is defined", "another")
    return body.unsigned("tcbEvaluationDataNumber", UINT32_MAX)


def _tdx_module(body: Fields, version: int, tee: str) -> TdxModule | None:
    if tee == SGX:
        for name in _TDX_MEMBERS:
            if name in body and version != 2:  # version 2 does not know the names
                body.invalid(name, "no such member in TCB info for SGX", "one")
        return None
    if "tdxModule" not in body:
        body.invalid("tdxModule", "a TDX module", "none")
    return TdxModule.parse(body.child("tdxModule", defects="format"))


def _tdx_module_identities(body: Fields, tee: str) -> tuple[TdxModuleIdentity, ...]:
    if tee == SGX or "tdxModuleIdentities" not in body:
        return ()
    items = body.children("tdxModuleIdentities", MAX_IDENTITIES, wrong="format")
    if not items:
        body.invalid("tdxModuleIdentities", "at least one identity", "none")
    return tuple(TdxModuleIdentity.parse(item) for item in items)


def _levels(body: Fields, version: int, tee: str) -> tuple[TcbLevel, ...]:
    levels = [_level(item, version, tee) for item in body.children("tcbLevels", MAX_LEVELS)]
    if not levels or len({level.rank for level in levels}) != len(levels):
        body.invalid("tcbLevels", "different levels, at least one", f"{len(levels)} with repetitions")
    return tuple(sorted(levels, key=lambda level: level.rank, reverse=True))


def _level(fields: Fields, version: int, tee: str) -> TcbLevel:
    date, status, advisory_ids = level_facts(fields, PLATFORM_STATUSES, no_word="format")
    tcb = fields.child("tcb", defects="format")
    return TcbLevel(
        components=_components(tcb, "sgxtcbcomponents") if version == 3 else _components_v2(tcb),
        pce_svn=tcb.unsigned("pcesvn", UINT32_MAX),
        tdx_components=_components(tcb, "tdxtcbcomponents") if tee == TDX else (),
        status=status,
        date=date,
        advisory_ids=advisory_ids,
    )


def _components(tcb: Fields, name: str) -> tuple[int, ...]:
    svns = tcb.unsigned_in_each(name, "svn", 255, COMPONENT_COUNT)
    if len(svns) != COMPONENT_COUNT:
        tcb.invalid(name, f"{COMPONENT_COUNT} components", f"{len(svns)}")
    return svns


def _components_v2(tcb: Fields) -> tuple[int, ...]:
    return tuple(tcb.unsigned(f"sgxtcbcomp{i:02}svn", 255) for i in range(1, COMPONENT_COUNT + 1))
