"""Admission of one pod: its requests for SGX in the canonical names, or the reasons why it is refused.

Source: Kubernetes "Extended resources" (limits equal requests) and ExtendedResourceToleration (a taint's key is the
resource's name); Intel device plugins for Kubernetes v0.36, SGX admission webhook (enclave device and EPC annotation,
which Kata Containers reads); ``quoting`` for quote providers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.pods.edit import Change, Editor
from bastide.pods.findings import Finding, Severity
from bastide.pods.lint import lint
from bastide.pods.lint_pod import TOLERATION_KEY
from bastide.pods.policy import AdmissionPolicy
from bastide.pods.quoting import lent_socket, quoting
from bastide.pods.request import ContainerAsk, SgxRequest, sgx_request
from bastide.pods.resources import ENCLAVE, EPC, PROVISION, QE, QUOTE, REGISTRATION, device_count, dialect_of, epc_of
from bastide.pods.tree import Path, at, mapping, sequence, text
from bastide.units import Bytes, format_quantity, parse_quantity

_ANNOTATION: Path = ("metadata", "annotations", EPC)
_VOLUMES: Path = ("spec", "volumes")
_LENT = f"the node agent mounts the quoting daemon's folder for {QUOTE}"
_TOLERATIONS: Path = ("spec", "tolerations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The answer.

    Attributes:
        allowed: whether the pod may be created.
        pod: the pod as it is to be created; a copy of what was given where it is refused.
        changes: what was changed on the way, in order; empty where it is refused.
        findings: refusals, warnings and remarks, worst first.
    """

    allowed: bool
    pod: dict[str, object]
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]


def admit(
    pod: dict[str, object],
    *,
    namespace: str,
    policy: AdmissionPolicy,
    declared_classes: Mapping[str, Bytes],
    present_epc: Sequence[Bytes],
) -> Admission:
    """Judge ``pod`` and, where it may run, write what it asks of SGX in canonical names.

    Every dialect becomes ``sgx.intel.com/epc`` in bytes with limits equal to requests, in init containers and sidecars
    too; each container with EPC gets an enclave device; quoting follows the annotation; the pod tolerates the SGX
    taint and carries the sum of its EPC as annotation. A pod that asks nothing of SGX is not changed, and admitting
    an admitted pod again changes nothing. ``pod`` itself is never touched.

    Args:
        pod: ``metadata`` and ``spec``.
        namespace: where the pod is to run.
        policy: the cluster's admission policy.
        declared_classes: bytes of allocatable EPC of each node class that the cluster may have.
        present_epc: bytes of allocatable EPC of each node that runs now.

    Raises:
        MalformedError: ``pod.depth``, ``pod.shape`` (a list where a mapping belongs, or the reverse).
    """
    request = sgx_request(pod)
    findings = lint(
        pod,
        request,
        namespace=namespace,
        policy=policy,
        declared_classes=declared_classes,
        present_epc=present_epc,
    )
    allowed = all(finding.severity is not Severity.REFUSE for finding in findings)
    editor = Editor(pod)
    if allowed and request.wants_sgx:
        _canonical(editor, request)
    return Admission(allowed=allowed, pod=editor.tree, changes=editor.changes, findings=findings)


def _canonical(editor: Editor, request: SgxRequest) -> None:
    quotes = quoting(editor.tree, request)
    if (volume := lent_socket(editor.tree, request)) is not None:
        _take_away(editor, request, volume.name)
    for ask in request.containers:
        wanted = _wanted(ask, needs_socket=ask in quotes.socket, needs_provision=ask in quotes.provision)
        for where in ("limits", "requests"):
            _rewrite(editor, ask, where, wanted)
    if not _tolerates_taint(editor.tree):
        toleration = {"key": TOLERATION_KEY, "operator": "Exists"}
        editor.append(_TOLERATIONS, toleration, "SGX nodes may be tainted against pods without SGX")
    if request.epc and not _says(at(editor.tree, _ANNOTATION), request.epc):
        editor.put(_ANNOTATION, format_quantity(request.epc), "the pod's EPC in all, as Kata Containers reads it")


def _take_away(editor: Editor, request: SgxRequest, volume: str) -> None:
    """Volume and mounts of the quoting daemon's folder: who asks for ``bastide.dev/quote`` gets it from the node."""
    for path in (*((*ask.path, "volumeMounts") for ask in request.containers), _VOLUMES):
        entries = sequence(at(editor.tree, path))
        left = [entry for entry in entries if text(at(entry, ("name",))) != volume]
        if left and len(left) < len(entries):
            editor.put(path, left, _LENT)
        elif entries and not left:
            editor.remove(path, _LENT)


def _wanted(ask: ContainerAsk, *, needs_socket: bool, needs_provision: bool) -> dict[str, tuple[int, str]]:
    """What the container shall have: amount and reason by canonical name."""
    same = "limits and requests of an extended resource are equal"
    enclave_reason = "an enclave needs the device" if ask.epc and not ask.enclave else same
    return {
        EPC: (ask.epc, same),
        ENCLAVE: (ask.enclave or int(ask.epc > 0), enclave_reason),
        PROVISION: (ask.provision or int(needs_provision), same if ask.provision else "it makes quotes in-process"),
        QE: (ask.qe, same),
        REGISTRATION: (ask.registration, same),
        QUOTE: (ask.quote or int(needs_socket), same if ask.quote else "quotes come from the node's quoting service"),
    }


def _rewrite(editor: Editor, ask: ContainerAsk, where: str, wanted: Mapping[str, tuple[int, str]]) -> None:
    """Make one resource list of one container say ``wanted``, in canonical names only."""
    resources: Path = (*ask.path, "resources", where)
    translated: dict[str, str] = {}
    for written in ask.asks:
        dialect = dialect_of(written.resource)
        if dialect is not None and dialect.canonical != written.resource:
            translated[dialect.canonical] = f"the canonical name for {written.resource} ({dialect.unit})"
            editor.remove((*resources, written.resource), f"rewritten to {dialect.canonical}")
    present = mapping(at(editor.tree, resources))
    for resource, (amount, reason) in wanted.items():
        if amount and _amount_or_none(resource, present.get(resource)) != amount:
            value = format_quantity(amount) if resource == EPC else amount
            editor.put((*resources, resource), value, translated.get(resource, reason))


def _amount_or_none(resource: str, quantity: object) -> int | None:
    """What is there now; a list without the resource has None. Asks were checked before, so nothing here raises."""
    if quantity is None:
        return None
    return epc_of(resource, quantity).bytes if resource == EPC else device_count(resource, quantity)


def _says(annotation: object, amount: int) -> bool:
    """Whether the annotation that is there says the same amount already, in whatever form."""
    try:
        return parse_quantity(text(annotation)) == amount
    except MalformedError:
        return False


def _tolerates_taint(pod: object) -> bool:
    """Whether some toleration matches the SGX taint whatever its effect is."""
    return any(
        text(at(toleration, ("operator",))) == "Exists"
        and text(at(toleration, ("key",))) in ("", TOLERATION_KEY)
        and not text(at(toleration, ("effect",)))
        for toleration in sequence(at(pod, _TOLERATIONS))
    )
