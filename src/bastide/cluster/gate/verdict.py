"""May this image run here? What it holds, judged by whom the cluster trusts.

The facts (``ImageReport``) come from the scanner. Signatures are verified here again from the raw SIGSTRUCTs, by the
code of ``bastide enclave verify``; that MRENCLAVE was computed rightly is the scanner's word. A statement, signed with
a key that a TrustedSigner gives for the repository, can stand in for what could not be measured or looked into.

Admission proves what is in the image; what really runs (an enclave on a volume, one downloaded later) is seen by
attestation alone.

Source: reference enclave-images.md sections 0 and 7; Intel SDM Vol. 3D, "EINIT".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bastide.checks import Check
from bastide.cluster.gate.report import EnclaveReport, ImageReport, ManifestReport
from bastide.cluster.gate.stated import Stated, read_statements
from bastide.cluster.gate.trusted import TrustedSigner, signers_policy
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.enclave.signers import MeasurementPolicy, SignersPolicy, repository_of
from bastide.enclave.verify import EnclaveVerdict, judge
from bastide.pods.images import ImageReference
from bastide.pods.policy import SignerGate
from bastide.units import Bytes


class Standing(StrEnum):
    """What is known of an image: ``unknown`` is not acceptable, and may become either of the others."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVerdict:
    """The answer about one image, and how it came about.

    Attributes:
        image: as the container names it.
        standing: see ``Standing``.
        checks: every question; all must be answered with yes. ``seen`` begins with the enclave's path where it is
            about one.
        warnings: what should be otherwise and does not decide.
        epc: least and most EPC in bytes that one process of one of its enclaves takes; None where not known.
    """

    image: ImageReference
    standing: Standing
    checks: tuple[Check, ...]
    warnings: tuple[Check, ...] = ()
    epc: tuple[Bytes, Bytes] | None = None

    @property
    def acceptable(self) -> bool:
        """Whether a pod with this image may run."""
        return self.standing is Standing.ACCEPTED

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The checks that decide against it."""
        return tuple(check for check in self.checks if not check.ok)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The refusals in words, each with what to do."""
        return tuple(_in_words(self.image, check) for check in self.refusals)


def judge_image(
    report: ImageReport | None,
    signers: Sequence[TrustedSigner],
    *,
    namespace: str,
    image: ImageReference,
    holds_device: bool,
    policy: SignerGate,
) -> ImageVerdict:
    """Judge one image of one pod.

    Checks: ``image.pinned`` (by a sha256 digest), ``image.report`` (there is one, about this digest), ``image.scan``,
    ``image.enclave`` (there is one), those of ``enclave.verify.judge`` for each enclave, those of
    ``enclave.statement.statement_checks``.

    Args:
        report: what the image holds; None when nobody looked yet (or what was written cannot be read).
        signers: all TrustedSigners of the cluster.
        namespace: of the pod.
        image: the container's, pinned by digest.
        holds_device: whether one of its containers can open an SGX device: then it must hold an enclave.
        policy: how strictly.
    """
    digest = image.digest or ""
    if not digest.startswith("sha256:"):
        return _verdict(image, [_pinned(digest)])
    if report is None or report.digest != digest:
        return replace(_verdict(image, [_reported(report)]), standing=Standing.UNKNOWN)
    repository = repository_of(image)
    measurement = MeasurementPolicy.REQUIRED if policy.require_measurement else MeasurementPolicy.WHEN_POSSIBLE
    trusted = signers_policy(signers, namespace=namespace, repository=repository, measurement=measurement)
    stated = read_statements(report, trusted, repository=repository)
    court = _Court(trusted=trusted, stated=stated, namespace=namespace)
    if report.failure is not None:
        court.by_statement_alone(report)
    else:
        for manifest in report.manifests:
            court.by_scan(manifest, needs_enclave=holds_device and not policy.allow_no_enclave)
    return replace(_verdict(image, court.checks), warnings=tuple(court.warnings), epc=_epc(report, stated))


class _Court:
    """Judges enclaves one after the other and keeps the answers."""

    def __init__(self, *, trusted: SignersPolicy, stated: Stated, namespace: str) -> None:
        self.checks: list[Check] = []
        self.warnings: list[Check] = []
        self._trusted = trusted
        self._stated = stated
        self._namespace = namespace

    def by_scan(self, manifest: ManifestReport, *, needs_enclave: bool) -> None:
        """Every enclave that was found must be accepted: which of them is started nobody can see from here."""
        if needs_enclave:
            self.checks.append(_has_enclave(manifest))
        for enclave in manifest.enclaves:
            verdict = judge(enclave.file, enclave.measured, self._trusted, public_keys=PUBLIC_SIGNERS)
            if _only_measurement_is_missing(verdict) and self._stated.vouches_for(manifest.digest, enclave):
                verdict = _judged_as_stated(enclave, verdict, self._trusted)
            self._keep(enclave, verdict)

    def by_statement_alone(self, report: ImageReport) -> None:
        """Nobody could look into the image: a statement about what is pinned must name its enclaves."""

    def _keep(self, enclave: EnclaveReport, verdict: EnclaveVerdict) -> None:
        self.checks += [_about(enclave.path, check, self._namespace) for check in verdict.checks]
        self.warnings += [_about(enclave.path, check, self._namespace) for check in verdict.warnings]
