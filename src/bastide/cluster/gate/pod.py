"""What the signer gate says of a whole pod: the one place that admission and the controller ask."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bastide.cluster.gate.needs import epc_findings
from bastide.cluster.gate.report import ImageReport
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.cluster.gate.verdict import ImageVerdict, Standing, judge_image
from bastide.cluster.gate.words import in_words
from bastide.errors import MalformedError
from bastide.pods.findings import Finding
from bastide.pods.images import ImageReference
from bastide.pods.lint_containers import image_of
from bastide.pods.policy import AdmissionPolicy, GateMode
from bastide.pods.request import ContainerAsk, sgx_request
from bastide.pods.tree import at, dotted


class Decision(StrEnum):
    """What is to be done with a pod. ``wait``: some image has not been looked into yet."""

    ADMIT = "admit"
    REFUSE = "refuse"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """The answer about one pod.

    Attributes:
        mode: of the gate, by which ``decision`` was made.
        decision: what to do.
        images: every image of the pod, judged; empty where the gate is off or the namespace exempt.
        refusals: why not, in words; in mode ``warn`` they are told and do not decide.
        missing: images that were not looked into yet, as the pod names them.
        findings: other things that people should see, such as EPC that does not fit the enclave.
    """

    mode: GateMode
    decision: Decision
    images: tuple[ImageVerdict, ...] = ()
    refusals: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that does not decide, in words."""
        return (
            *(self.refusals if self.decision is Decision.ADMIT else ()),
            *(f"{image}: not looked into yet" for image in self.missing if self.decision is Decision.ADMIT),
            *(f"{one.image.build()}: {in_words(check)}" for one in self.images for check in one.warnings),
            *(f"{finding.message}: {finding.hint}" for finding in self.findings),
        )

    @property
    def summary(self) -> str:
        """One line for the annotation ``bastide.dev/gate``."""
        if self.decision is Decision.REFUSE:
            return f"{self.mode}: refused: {self.refusals[0]}"
        if self.decision is Decision.WAIT:
            return f"{self.mode}: waits for the scan of {', '.join(self.missing)}"
        if self.refusals or self.missing:
            return f"{self.mode}: admitted, though: {(*self.refusals, *self.missing)[0]}"
        return f"{self.mode}: admitted, images judged: {len(self.images)}"


def judge_pod(
    pod: dict[str, object],
    *,
    namespace: str,
    reports: Mapping[str, ImageReport],
    signers: Sequence[TrustedSigner],
    policy: AdmissionPolicy,
) -> GateVerdict:
    """Judge every image of a pod that asks for SGX (whether it does is the caller's question).

    Args:
        pod: with ``metadata`` and ``spec``, images pinned by digest.
        namespace: where it is to run.
        reports: what is known of images, by digest.
        signers: all TrustedSigners of the cluster.
        policy: with the gate's mode; pods of exempt namespaces are the node's own equipment and not asked.
    """
    mode = policy.signer_gate.mode
    if mode is GateMode.OFF or policy.exempts(namespace):
        return GateVerdict(mode=mode, decision=Decision.ADMIT)
    used, unreadable = _images(pod)
    verdicts = tuple(
        judge_image(
            reports.get(image.digest or ""),
            signers,
            namespace=namespace,
            image=image,
            holds_device=any(ask.wants_sgx for ask in asks),
            policy=policy.signer_gate,
        )
        for image, asks in used.items()
    )
    refusals = (
        *unreadable,
        *(
            f"{one.image.build()}: {reason}"
            for one in verdicts
            if one.standing is Standing.REFUSED
            for reason in one.reasons
        ),
    )
    missing = tuple(one.image.build() for one in verdicts if one.standing is Standing.UNKNOWN)
    return GateVerdict(
        mode=mode,
        decision=decide(mode, refused=bool(refusals), missing=bool(missing)),
        images=verdicts,
        refusals=refusals,
        missing=missing,
        findings=tuple(_findings(used, verdicts)),
    )


def decide(mode: GateMode, *, refused: bool, missing: bool) -> Decision:
    """What a mode makes of a finding; nothing but ``enforce`` keeps a pod waiting or out."""
    if mode is not GateMode.ENFORCE:
        return Decision.ADMIT
    if refused:
        return Decision.REFUSE
    return Decision.WAIT if missing else Decision.ADMIT


def _images(pod: dict[str, object]) -> tuple[dict[ImageReference, list[ContainerAsk]], tuple[str, ...]]:
    """Each image with the containers that run it, and what could not be read, in words."""
    used: dict[ImageReference, list[ContainerAsk]] = {}
    unreadable: list[str] = []
    for ask in sgx_request(pod).containers:
        try:
            used.setdefault(image_of(at(pod, ask.path)), []).append(ask)
        except MalformedError as error:
            unreadable.append(f"{dotted((*ask.path, 'image'))}: {error.message} [{error.code}]")
    return used, tuple(unreadable)


def _findings(
    used: Mapping[ImageReference, Sequence[ContainerAsk]], verdicts: Sequence[ImageVerdict]
) -> Iterator[Finding]:
    for one in verdicts:
        for ask in used[one.image]:
            yield from epc_findings(ask, one.needs)
