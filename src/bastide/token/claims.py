"""The claims of an attestation token for an SGX enclave.

Names and types are Azure Attestation's; what Azure does not tell (TCB status, advisories, the collateral's number)
stands under our own prefix ``x-bastide-``.

Source: reference attestation-service.md section 2, taken from recorded tokens.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.report import ReportBody
from bastide.token.json_text import LARGEST_TEXT, Json, read_json, write_json

Scalar = str | int | bool

ATTESTATION_TYPE = "sgx"
CLAIMS_VERSION = "1.0"
SIMULATION_CLAIM = "x-bastide-simulation"
DRAFT_CLAIM = "x-bastide-draft"
PROFILE_CLAIM = "x-bastide-profile"
EVIDENCE_CLAIM = "x-bastide-evidence"
REPORT_DATA_CLAIM = "x-ms-sgx-report-data"
BOUND_CLAIMS = frozenset({EVIDENCE_CLAIM, REPORT_DATA_CLAIM})
"""Those of ``incoming_claims`` and ``evidence_json`` that tell what data an enclave has bound to its report."""

DEPRECATED_POLICY_CLAIMS = ("is-debuggable", "product-id", "sgx-mrenclave", "sgx-mrsigner", "svn", "tee")
"""Names that a policy may issue at the top level of the token; any other goes under ``x-ms-policy``."""

_ALIASES = {
    "$is-debuggable": "x-ms-sgx-is-debuggable",
    "$product-id": "x-ms-sgx-product-id",
    "$sgx-mrenclave": "x-ms-sgx-mrenclave",
    "$sgx-mrsigner": "x-ms-sgx-mrsigner",
    "$svn": "x-ms-sgx-svn",
    "$tee": "x-ms-attestation-type",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeData:
    """Data that the enclave bound to its report by SHA-256 in ``report_data[0:32]``.

    Attributes:
        raw: the bytes, at most 64 KiB.
        value: the object that they say when they are JSON, else None.
    """

    raw: bytes
    value: Mapping[str, Json] | None = None

    @classmethod
    def parse(cls, raw: bytes, *, is_json: bool) -> "RuntimeData":
        """Take runtime data as sent.

        Raises:
            MalformedError: ``token.runtime.size``, ``token.runtime.object``, and those of ``read_json``.
        """
        if len(raw) > LARGEST_TEXT:
            message = f"expected at most {LARGEST_TEXT} bytes of runtime data, seen {len(raw)}"
            raise MalformedError("token.runtime.size", message)
        if not is_json:
            return cls(raw=raw)
        value = read_json(raw)
        if not isinstance(value, dict):
            raise MalformedError("token.runtime.object", "expected JSON runtime data to be an object")
        return cls(raw=raw, value=value)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes, 32 bytes."""
        return hashlib.sha256(self.raw).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralHashes:
    """What the verdict rests on: SHA-256 as 64 lower-case hex digits each, under the claim's own member names."""

    qeidcertshash: str
    qeidcrlhash: str
    qeidhash: str
    quotehash: str
    tcbinfocertshash: str
    tcbinfocrlhash: str
    tcbinfohash: str


_HASHES = tuple(one.name for one in fields(CollateralHashes))


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbFacts:
    """What verification found out about the platform.

    Attributes:
        status: Intel's TCB status, such as ``UpToDate``.
        date: TCB date of the level; None when no level was found.
        advisory_ids: Intel's advisories that apply.
        evaluation_data_number: number of the collateral used.
        simulation: the quote came from software SGX.
    """

    status: str
    date: datetime | None
    advisory_ids: tuple[str, ...]
    evaluation_data_number: int
    simulation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFrame:
    """What frames a token: whose, when, which.

    Attributes:
        issuer: URL without a trailing slash.
        issued_at: aware instant; the token counts whole seconds and never the future.
        lifetime: from ``issued_at``.
        jti: 64 hex digits.
        nonce: what the client sent to tell its answer from a replay; claim ``nonce``.
        audience: for whom the token is; claim ``aud``.
        profile: how evidence was appraised before the policy was asked, ``strict`` or ``maa``.
        draft: the policy was the client's own draft; the token proves nothing and says so.
    """

    issuer: str
    issued_at: datetime
    lifetime: timedelta
    jti: str
    nonce: str | None = None
    audience: str | None = None
    profile: str = "strict"
    draft: bool = False


def enclave_claims(
    report: ReportBody,
    tcb: TcbFacts,
    *,
    policy_hash: str,
    issued: Sequence[tuple[str, Scalar]] = (),
    policy_signer: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """What the tokens of one enclave have in common, whatever data it has bound to its report.

    Args:
        report: a report body of it; the claim of report data is this one's.
        tcb: TCB facts.
        policy_hash: of the policy that decided.
        issued: claims that the policy issued, in order; a name with several values becomes an array.
        policy_signer: members ``kty`` and ``x5c`` of whoever signed the policy.
    """
    claims: dict[str, Json] = {
        **evidence_claims(report),
        **tcb_claims(tcb),
        **({} if policy_signer is None else {"x-ms-policy-signer": dict(policy_signer)}),
        **_policy_claims(issued),
        "x-ms-policy-hash": policy_hash,
        "x-ms-ver": CLAIMS_VERSION,
    }
    return dict(sorted(claims.items()))


def sgx_claims(
    common: Mapping[str, Json],
    *,
    frame: TokenFrame,
    report_data: bytes,
    collateral: CollateralHashes,
    runtime: RuntimeData | None = None,
    init_time: RuntimeData | None = None,
) -> dict[str, Json]:
    """The body of a token, keys in alphabetical order.

    Args:
        common: of ``enclave_claims``.
        frame: issuer, times, id.
        report_data: of this report, 64 bytes.
        collateral: hashes of what was used.
        runtime: runtime data, its hash already compared with the report.
        init_time: data of the enclave's start, their hash already compared with the report; shown when they are JSON.
    """
    hashes: dict[str, Json] = {name: getattr(collateral, name) for name in _HASHES}
    claims: dict[str, Json] = {
        **common,
        **_frame_claims(frame),
        **_runtime_claims(runtime),
        **_init_time_claims(init_time),
        REPORT_DATA_CLAIM: report_data.hex(),
        "maa-attestationcollateral": hashes,
        "x-ms-sgx-collateral": hashes,
    }
    return dict(sorted(claims.items()))


def evidence_claims(report: ReportBody) -> dict[str, Scalar]:
    """The claims that a report body makes; those of key separation and sharing only when its attribute is set."""
    claims: dict[str, Scalar] = {
        "x-ms-attestation-type": ATTESTATION_TYPE,
        "x-ms-sgx-is-debuggable": report.attributes.debug,
        "x-ms-sgx-mrenclave": report.mr_enclave.hex(),
        "x-ms-sgx-mrsigner": report.mr_signer.hex(),
        "x-ms-sgx-product-id": report.isv_prod_id,
        REPORT_DATA_CLAIM: report.report_data.hex(),
        "x-ms-sgx-svn": report.isv_svn,
    }
    if AttributeFlags.KSS in report.attributes.flags:
        claims |= {
            "x-ms-sgx-config-id": report.config_id.hex(),
            "x-ms-sgx-config-svn": report.config_svn,
            "x-ms-sgx-isv-extended-product-id": report.isv_ext_prod_id.hex(),
            "x-ms-sgx-isv-family-id": report.isv_family_id.hex(),
        }
    return claims


def tcb_claims(tcb: TcbFacts) -> dict[str, Json]:
    """Our own claims about the platform; ``x-bastide-simulation`` only where it is true."""
    claims: dict[str, Json] = {
        "x-bastide-advisory-ids": list(tcb.advisory_ids),
        "x-bastide-tcb-evaluation-data-number": tcb.evaluation_data_number,
        "x-bastide-tcb-status": tcb.status,
    }
    if tcb.date is not None:
        claims["x-bastide-tcb-date"] = tcb.date.strftime("%Y-%m-%dT%H:%M:%SZ")
    if tcb.simulation:
        claims[SIMULATION_CLAIM] = True
    return claims


def incoming_claims(report: ReportBody, tcb: TcbFacts) -> tuple[tuple[str, Scalar], ...]:
    """Names and values that a policy may ask for: the evidence, its older aliases (``$svn``...), and the TCB facts.

    ``x-bastide-advisory-ids`` comes once for each advisory.
    """
    evidence = evidence_claims(report)
    aliases = {alias: evidence[name] for alias, name in _ALIASES.items()}
    return (*evidence.items(), *aliases.items(), *_flatten(tcb_claims(tcb)))


def evidence_json(
    report: ReportBody, tcb: TcbFacts, *, runtime: RuntimeData | None = None, init_time: RuntimeData | None = None
) -> str:
    """All of the evidence as one JSON text: the claim ``x-bastide-evidence`` for policies of version 1.2.

    An object with the evidence claims and TCB facts under their names, and with the data that the enclave is bound to
    where they are JSON (``x-ms-runtime``, ``x-ms-inittime``): what a policy could not look into otherwise.

    Source: Azure Attestation documentation, "Policy version 1.2" (evidence kept as JSON); the name is ours.
    """
    claims: dict[str, Json] = {**evidence_claims(report), **tcb_claims(tcb)}
    for name, data in (("x-ms-runtime", runtime), ("x-ms-inittime", init_time)):
        if data is not None and data.value is not None:
            claims[name] = dict(data.value)
    return write_json(claims).decode()


def _flatten(claims: Mapping[str, Json]) -> Iterable[tuple[str, Scalar]]:
    for name, value in claims.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | int):
                yield name, one


def _frame_claims(frame: TokenFrame) -> dict[str, Json]:
    issued_at = int(frame.issued_at.timestamp())
    claims: dict[str, Json] = {
        "exp": issued_at + int(frame.lifetime.total_seconds()),
        "iat": issued_at,
        "iss": frame.issuer,
        "jti": frame.jti,
        "nbf": issued_at,
        PROFILE_CLAIM: frame.profile,
    }
    if frame.audience is not None:
        claims["aud"] = frame.audience
    if frame.nonce is not None:
        claims["nonce"] = frame.nonce
    if frame.draft:
        claims[DRAFT_CLAIM] = True
    return claims


def _runtime_claims(runtime: RuntimeData | None) -> dict[str, Json]:
    if runtime is None:
        return {}
    if runtime.value is not None:
        return {"x-ms-runtime": dict(runtime.value)}
    held = base64.urlsafe_b64encode(runtime.raw).rstrip(b"=").decode()
    return {"aas-ehd": held, "maa-ehd": held, "x-ms-sgx-ehd": held}


def _init_time_claims(init_time: RuntimeData | None) -> dict[str, Json]:
    if init_time is None or init_time.value is None:
        return {}
    return {"x-ms-inittime": dict(init_time.value)}


def _policy_claims(issued: Sequence[tuple[str, Scalar]]) -> dict[str, Json]:
    values: dict[str, list[Scalar]] = {}
    for name, value in issued:
        known = values.setdefault(name, [])
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in known):
            known.append(value)
    rendered: dict[str, Json] = {name: many[0] if len(many) == 1 else [*many] for name, many in values.items()}
    claims = {name: value for name, value in rendered.items() if name in DEPRECATED_POLICY_CLAIMS}
    others = {name: value for name, value in rendered.items() if name not in DEPRECATED_POLICY_CLAIMS}
    return {**claims, "x-ms-policy": others} if others else claims
