"""Many quotes under one collateral: the same verdicts as of :func:`bastide.dcap.verify`, without the same work again.

What is remembered, and why a remembered answer is the right one:

* Platforms whose certificates and collateral are genuine, by all bytes of the certificates.
* Verdicts that said yes, by all that questions are asked about (:class:`bastide.dcap.evidence.Evidence`). Both
  signatures of a quote are still checked before its verdict is given.
* Signatures of a quoting enclave's report that were good, by their bytes. Only the quote's own is then left.

All of it lies in an object that was made for one collateral, one root and one policy. It is used only while everything
is in force, when no answer depends on time, and is forgotten when anything runs out. A refusal is never remembered,
what is not genuine takes up no room, and the room is bounded: whoever sends one genuine quote in ever new wrappings
(white space between its certificates is covered by no signature) costs others their places, not the memory.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from bastide.dcap.appraisal import STRICT, AppraisalPolicy, has_grace_running
from bastide.dcap.collateral import Collateral
from bastide.dcap.evidence import Evidence, QuoteSignatures
from bastide.dcap.inquiry import CallResult
from bastide.dcap.intel import PckCertificate
from bastide.dcap.platform import Platform
from bastide.dcap.prepared import PreparedCollateral
from bastide.dcap.status import QvlStatus
from bastide.dcap.verdict import Verdict
from bastide.dcap.verify import conclude, cut, inquire, prepare
from bastide.pki.chain import INTEL_ROOT, TrustAnchor
from bastide.pki.ecdsa import load_point
from bastide.sgx.quote import CertificationData, Quote, QuoteParts

MAX_PLATFORMS = 1024
"""Platforms remembered unless told otherwise."""
MAX_VERDICTS = 16
"""Verdicts remembered for one platform: one for each quoting enclave and each kind of TD."""
MAX_QE_SIGNATURES = 16
"""Signatures of one QE report that are remembered unless told otherwise: one for each process of the enclave."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True, kw_only=True)
class _Known:
    """A verdict, and what is left to be checked before it can be given again."""

    verdict: Verdict
    pck_key: ec.EllipticCurvePublicKey
    attestation_key: ec.EllipticCurvePublicKey
    qe_signatures: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _KnownPlatform:
    """A genuine platform, the calls that do not see the quote, and its verdicts."""

    platform: Platform
    calls: tuple[CallResult, CallResult, CallResult]
    verdicts: dict[Evidence, _Known] = field(default_factory=dict)


class Verifier:
    """Verifies quotes under one collateral, one root and one policy.

    The object belongs to one thread, or one process of a pool: what it remembers is its own.

    Args:
        collateral: as served, or prepared. What was prepared under another root is prepared anew.
        root: the root key to trust.
        policy: what to accept beyond what Intel's library asks; :data:`STRICT` when none is named. Verdicts say
            which it was.
        max_platforms: platforms that are remembered at most; the oldest gives way.
        max_qe_signatures: signatures of a QE report that are remembered at most; with 0 each is checked every time.
    """

    def __init__(
        self,
        collateral: Collateral | PreparedCollateral,
        *,
        root: TrustAnchor = INTEL_ROOT,
        policy: AppraisalPolicy = STRICT,
        max_platforms: int = MAX_PLATFORMS,
        max_qe_signatures: int = MAX_QE_SIGNATURES,
    ) -> None:
        self.prepared = prepare(collateral, root)
        self.policy = policy
        self._max_platforms = max_platforms
        self._max_qe_signatures = max_qe_signatures
        self._platforms: dict[tuple[int, bytes], _KnownPlatform] = {}

    def verify(self, quote: bytes | Quote | QuoteParts, at: datetime) -> Verdict:
        """Judge a quote; equal to what :func:`bastide.dcap.verify` says of it.

        Args:
            quote: an SGX or TDX quote of version 3, 4 or 5, as bytes, parsed or in parts.
            at: the instant of judgement; aware.

        Raises:
            MalformedError: ``quote.*``, when ``quote`` is no quote at all.
        """
        parts = cut(quote)
        known = self._known_platform(parts, at)
        if known is None:
            known = self._new_platform(parts, at)
        evidence = Evidence.of(parts, known.platform.certification)
        judged = known.verdicts.get(evidence)
        if judged is not None and self._is_signed(parts, judged):
            return judged.verdict
        return self._judge(parts, evidence, known, at)

    def knows(self, quote: bytes | Quote | QuoteParts) -> bool:
        """Whether the platform of a quote is remembered, so that verifying takes a tenth of what it takes at first.

        Raises:
            MalformedError: ``quote.*``, when ``quote`` is no quote at all.
        """
        parts = cut(quote)
        return (parts.certification_type, parts.certification_data) in self._platforms

    def _known_platform(self, parts: QuoteParts, at: datetime) -> _KnownPlatform | None:
        """The platform, if it is known and everything in force; what has run out is forgotten."""
        key = (parts.certification_type, parts.certification_data)
        known = self._platforms.get(key)
        if known is None or known.platform.is_in_force(at):
            return known
        del self._platforms[key]
        return None

    def _new_platform(self, parts: QuoteParts, at: datetime) -> _KnownPlatform:
        """A platform not seen before, remembered if it is genuine."""
        certification = CertificationData(type=parts.certification_type, data=parts.certification_data)
        platform = Platform.of(certification, self.prepared)
        new = _KnownPlatform(platform=platform, calls=platform.calls(at))
        if platform.is_in_force(at) and all(call.status is QvlStatus.OK for call in new.calls):
            _remember(self._platforms, (certification.type, certification.data), new, self._max_platforms)
        return new

    def _judge(self, parts: QuoteParts, evidence: Evidence, known: _KnownPlatform, at: datetime) -> Verdict:
        """Ask every question about the quote; a yes is remembered if no answer can change while all is in force."""
        platform = known.platform
        subject = inquire(evidence, QuoteSignatures(parts), platform, known.calls, at)
        verdict = conclude(subject, self.policy)
        key, leaf = load_point(b"\x04" + parts.attestation_key), platform.pck.leaf
        lasting = platform.is_in_force(at) and not has_grace_running(subject, self.policy)
        if verdict.acceptable and lasting and key is not None and isinstance(leaf, PckCertificate):
            judged = _Known(verdict=verdict, pck_key=leaf.certificate.key, attestation_key=key)
            _remember(judged.qe_signatures, parts.qe_report_signature, None, self._max_qe_signatures)
            _remember(known.verdicts, evidence, judged, MAX_VERDICTS)
        return verdict

    def _is_signed(self, parts: QuoteParts, judged: _Known) -> bool:
        """Whether both signatures hold: the QE report's, unless it was good before, and the quote's."""
        signatures = QuoteSignatures(parts)
        if parts.qe_report_signature not in judged.qe_signatures:
            if not signatures.qe_report_is_by(judged.pck_key):
                return False
            _remember(judged.qe_signatures, parts.qe_report_signature, None, self._max_qe_signatures)
        return signatures.quote_is_by(judged.attestation_key)


def _remember(memory: dict[K, V], key: K, value: V, most: int) -> None:
    """Add to a bounded memory; what was added first gives way."""
    if len(memory) >= most:
        for oldest in list(memory)[: len(memory) - most + 1]:
            del memory[oldest]
    if most > 0:
        memory[key] = value
