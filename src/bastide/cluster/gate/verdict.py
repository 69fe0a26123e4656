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
from bastide.cluster.gate.needs import EnclaveNeed
from bastide.cluster.gate.report import EnclaveReport, ImageReport, ManifestReport
from bastide.cluster.gate.stated import Stated, judge_claim, read_statements
from bastide.cluster.gate.trusted import TrustedSigner, signers_policy
from bastide.cluster.gate.words import in_cluster, in_words
from bastide.enclave.public_keys import PUBLIC_SIGNERS
from bastide.enclave.signers import MeasurementPolicy, SignersPolicy, repository_of
from bastide.enclave.statement import Statement
from bastide.enclave.verify import EnclaveVerdict, judge
from bastide.pods.images import ImageReference
from bastide.pods.policy import SignerGate


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
        needs: EPC of its enclaves, as far as known.
    """

    image: ImageReference
    standing: Standing
    checks: tuple[Check, ...]
    warnings: tuple[Check, ...] = ()
    needs: tuple[EnclaveNeed, ...] = ()

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
        return tuple(in_words(check) for check in self.refusals)


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

    Checks: ``image.pinned`` (by a sha256 digest), ``image.report`` (there is one, about this digest), ``image.scan``
    (it could be looked into, or a statement says what is in it), ``image.enclave`` (there is one), and for each
    enclave those of ``enclave.verify.judge``. Warnings: theirs, ``enclave.insecure``, ``statement.*`` (one that does
    not count).

    Args:
        report: what the image holds; None when nobody looked yet (or what was written cannot be read).
        signers: all TrustedSigners of the cluster.
        namespace: of the pod.
        image: the container's, pinned by digest.
        holds_device: whether one of its containers can open an SGX device: then it must hold an enclave.
        policy: how strictly.
    """
    digest = image.digest or ""
    pinned = _pinned(digest)
    if not pinned.ok:
        return ImageVerdict(image=image, standing=Standing.REFUSED, checks=(pinned,))
    reported = _reported(digest, report)
    if report is None or not reported.ok:
        return ImageVerdict(image=image, standing=Standing.UNKNOWN, checks=(pinned, reported))
    court = _Court.of(report, signers, namespace=namespace, repository=repository_of(image), policy=policy)
    checks = [pinned, reported, *court.checks(needs_enclave=holds_device and not policy.allow_no_enclave)]
    return ImageVerdict(
        image=image,
        standing=Standing.ACCEPTED if all(check.ok for check in checks) else Standing.REFUSED,
        checks=tuple(checks),
        warnings=tuple(court.warnings),
        needs=tuple(_needs(report)),
    )


class _Court:
    """Judges one report; gathers warnings on the way."""

    def __init__(self, report: ImageReport, trusted: SignersPolicy, stated: Stated, namespace: str) -> None:
        self.warnings: list[Check] = list(stated.passed_over)
        self._report = report
        self._trusted = trusted
        self._stated = stated
        self._namespace = namespace

    @classmethod
    def of(
        cls,
        report: ImageReport,
        signers: Sequence[TrustedSigner],
        *,
        namespace: str,
        repository: str,
        policy: SignerGate,
    ) -> "_Court":
        measurement = MeasurementPolicy.REQUIRED if policy.require_measurement else MeasurementPolicy.WHEN_POSSIBLE
        trusted = signers_policy(signers, namespace=namespace, repository=repository, measurement=measurement)
        return cls(report, trusted, read_statements(report, trusted, repository=repository), namespace)

    def checks(self, *, needs_enclave: bool) -> list[Check]:
        if self._report.failure is not None:
            return self._by_statement()
        checks = [Check(name="image.scan", ok=True, expected="looked into", seen=f"{self._report.scanned_at}")]
        for manifest in self._report.manifests:
            if needs_enclave:
                checks.append(_has_enclave(manifest))
            for enclave in manifest.enclaves:
                checks += self._enclave(manifest, enclave)
        return checks

    def _enclave(self, manifest: ManifestReport, enclave: EnclaveReport) -> list[Check]:
        """Every enclave that was found must be accepted: which of them is started nobody can see from here."""
        verdict = judge(enclave.file, enclave.measured, self._trusted, public_keys=PUBLIC_SIGNERS)
        vouched = self._stated.vouches_for((self._report.digest, manifest.digest), enclave)
        checks = _as_stated(verdict) if vouched else verdict.checks
        self.warnings += [self._about(enclave, check) for check in verdict.warnings if not vouched]
        if enclave.insecure:
            self.warnings.append(_insecure(enclave))
        return [self._about(enclave, check) for check in checks]

    def _by_statement(self) -> list[Check]:
        """Nobody could look into the image: statements about all of it must name its enclaves."""
        statements = self._all_of_it()
        checks = [_scan_failed(self._report, self._stated, statements)]
        for claim in dict.fromkeys(claim for statement in statements for claim in statement.enclaves):
            judged = judge_claim(claim, self._trusted, PUBLIC_SIGNERS)
            checks += [in_cluster(claim.path, check, self._namespace) for check in judged]
        if any(claim.attributes is None for statement in statements for claim in statement.enclaves):
            self.warnings.append(_NOT_STATED)
        return checks

    def _all_of_it(self) -> tuple[Statement, ...]:
        """Statements about what is pinned, or about each of its manifests; none where one is missing."""
        if whole := self._stated.about((self._report.digest,)):
            return whole
        parts = [self._stated.about((manifest.digest,)) for manifest in self._report.manifests]
        return tuple(statement for part in parts for statement in part) if all(parts) else ()

    def _about(self, enclave: EnclaveReport, check: Check) -> Check:
        why = enclave.problem or enclave.file.note
        return in_cluster(enclave.path, check, self._namespace, kind=enclave.kind, why=why)


_NOT_STATED = Check(
    name="statement.attributes",
    ok=False,
    expected="attributes of the enclaves",
    seen="an older statement, which says nothing of DEBUG and PROVISIONKEY",
    hint="sign it again; attestation sees both",
)


def _pinned(digest: str) -> Check:
    ok = digest.startswith("sha256:")
    return Check(
        name="image.pinned",
        ok=ok,
        expected="an image by its sha256 digest",
        seen=digest or "no digest",
        hint="" if ok else "write name@sha256:<64 hex digits>; a tag may point elsewhere tomorrow",
    )


def _reported(digest: str, report: ImageReport | None) -> Check:
    seen = report.digest if report is not None else "none: nobody has looked into this image yet"
    ok = seen == digest
    return Check(name="image.report", ok=ok, expected=digest, seen=seen, hint="" if ok else "the scanner was asked")


def _has_enclave(manifest: ManifestReport) -> Check:
    found = len(manifest.enclaves)
    return Check(
        name="image.enclave",
        ok=bool(found),
        expected="an enclave in the image of a container that holds an SGX device",
        seen=f"{found} in {manifest.digest}" if found else f"no enclave found in {manifest.digest}",
        hint="" if found else "ship the enclave in the image, or let signerGate.allowNoEnclave pass over this",
    )


def _scan_failed(report: ImageReport, stated: Stated, statements: Sequence[Statement]) -> Check:
    failure = report.failure
    said = "" if failure is None else f"{failure.message} [{failure.code}]"
    return Check(
        name="image.scan",
        ok=bool(statements),
        expected="an image that can be looked into, or a signed statement about it",
        seen=f"{said}; {len(statements)} of {len(report.statements)} statements count",
        hint="" if statements else next((in_words(check) for check in stated.passed_over), "sign a statement about it"),
    )


def _as_stated(verdict: EnclaveVerdict) -> tuple[Check, ...]:
    """A statement stands in for a measurement that could not be made; never for one that was made and differs."""
    if verdict.measurement_matches is not None:
        return verdict.checks
    return tuple(
        replace(check, ok=True, seen="stated by a trusted key", hint="")
        if check.name == "enclave.measurement"
        else check
        for check in verdict.checks
    )


def _insecure(enclave: EnclaveReport) -> Check:
    return Check(
        name="enclave.insecure",
        ok=False,
        expected="a manifest that keeps the host out",
        seen=f"{enclave.path}: {'; '.join(enclave.insecure)}",
        hint="build it again without these settings",
    )


def _needs(report: ImageReport) -> Iterator[EnclaveNeed]:
    for enclave in report.enclaves:
        if enclave.epc is not None:
            yield EnclaveNeed(path=enclave.path, loaded=enclave.epc, most=enclave.epc_most or enclave.epc)
