"""What a run of the lab came to: values whose field names are the keys of ``bastide lab run --json``. SIMULATION.

Amounts are bytes where the name says nothing else; pages are 4 KiB.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from bastide.checks import Check
from bastide.errors import BastideError


class Phase(StrEnum):
    """How far a pod came."""

    DENIED = "Denied"
    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingResult:
    """Something that admission had to say; ``field`` from the pod's root, ``where`` as ``file:line``."""

    code: str
    severity: str
    field: str
    message: str
    hint: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something ended: a stable code, the reason, what to do."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadInput:
    """Why a file was left out; the keys are those of the command's JSON object ``error``."""

    code: str
    message: str
    hint: str = ""
    where: str = ""

    @classmethod
    def of(cls, error: BastideError) -> "BadInput":
        """The error that a file ended in."""
        return cls(code=error.code, message=error.message, hint=error.hint or "", where=error.where or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceResult:
    """What the attestation service said of one enclave.

    Attributes:
        accepted: whether it gave a token.
        status: Intel's word for the quote.
        tcb_status: status of platform and quoting enclave.
        quote_size: bytes of the quote.
        checks: every question with its answer.
        refusals: the answers that were no, in the order of asking: a cause stands before what sums it up.
        token: the RS256 token; empty where refused.
        claims: the token's claims.
        quote: base64 of the quote, as it was presented.
        runtime_data: base64 of what the enclave bound to it, as it was presented.
    """

    accepted: bool
    status: str
    tcb_status: str
    quote_size: int
    checks: tuple[Check, ...]
    refusals: tuple[Refusal, ...]
    token: str = ""
    claims: dict[str, object] = field(default_factory=dict)
    quote: str = ""
    runtime_data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveResult:
    """One container with an enclave.

    Attributes:
        container: its name.
        image: as written.
        program: the lab's program, ``opaque`` where the image is not known.
        devices: device nodes and mounts that the node agent gave.
        environment: variables that the node agent gave.
        epc_asked, epc_used: bytes asked for, and taken by the enclave with SECS and VA pages.
        mr_enclave, mr_signer: 64 hex digits; empty where it did not start.
        log: what the program printed.
        exit_code: of the program; None where it did not run.
        evidence: None where there was none to give.
        refusal: why it did not start or gave no evidence.
    """

    container: str
    image: str
    program: str
    devices: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    epc_asked: int = 0
    epc_used: int = 0
    mr_enclave: str = ""
    mr_signer: str = ""
    log: tuple[str, ...] = ()
    exit_code: int | None = None
    evidence: EvidenceResult | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReason:
    """Why one node cannot take a pod, and by how much."""

    node: str
    dimension: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodResult:
    """One pod.

    Attributes:
        name: of the pod, as its controller would call it (numbers where Kubernetes draws letters).
        namespace: where it is.
        workload: ``Job/sgx-test``.
        where: ``file:line`` of its manifest.
        phase: how far it came.
        reason: one sentence on that.
        epc: bytes of EPC that the scheduler counts for it.
        node: where it was placed; empty where it was not.
        why: why there.
        node_reasons: node by node, why not; only while Pending.
        diff: what admission changed, as a unified diff; empty where nothing.
        findings: what admission had to say.
        not_modelled: scheduling rules that the manifest uses and the lab left out.
        enclaves: its containers with enclaves.
    """

    name: str
    namespace: str
    workload: str
    where: str
    phase: Phase
    reason: str
    epc: int = 0
    node: str = ""
    why: str = ""
    node_reasons: tuple[NodeReason, ...] = ()
    diff: str = ""
    findings: tuple[FindingResult, ...] = ()
    not_modelled: tuple[str, ...] = ()
    enclaves: tuple[EnclaveResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """One node after the run.

    Attributes:
        name: of the node.
        node_class: name in the catalogue.
        sgx: ``sgx1``, ``sgx2`` or empty.
        taints: as kubectl writes them.
        pods: how many were placed on it.
        epc_allocatable, epc_requested, epc_used: bytes; used by loaded enclaves at most at one time.
        epc_evicted_pages, epc_reloaded_pages: what paging moved.
        slowdown: estimate where enclaves used more than there is; empty else.
        slowdown_source: publications behind it.
        lifecycle: what its supplier announced.
    """

    name: str
    node_class: str
    sgx: str
    taints: tuple[str, ...]
    pods: int
    epc_allocatable: int = 0
    epc_requested: int = 0
    epc_used: int = 0
    epc_evicted_pages: int = 0
    epc_reloaded_pages: int = 0
    slowdown: str = ""
    slowdown_source: str = ""
    lifecycle: tuple[str, ...] = ()


# Without a repr: asyncio writes out what its main task returned when it puts back a signal's handler, and of thousands
# of pods that takes longer than placing them.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LabResult:
    """The whole run.

    Attributes:
        simulation: always true: nothing here happened on SGX hardware.
        pods: in the order of the manifests.
        nodes: in the order of the cluster.
        passed_over: objects that make no pods, as ``kind/name (file:line)``.
        without_pods: workloads that have no pod in this run, likewise, each with the reason.
        bad_input: files that were refused while others went on (``--keep-going``).
        faults: what was broken on purpose.
        root: the root that the quotes were judged under.
        issuer: whose tokens these are.
        seconds: wall time by step.
    """

    simulation: bool = True
    pods: tuple[PodResult, ...]
    nodes: tuple[NodeResult, ...]
    passed_over: tuple[str, ...] = ()
    without_pods: tuple[str, ...] = ()
    bad_input: tuple[BadInput, ...] = ()
    faults: tuple[str, ...] = ()
    root: str = ""
    issuer: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether every pod came through, and everything that gave evidence was believed."""
        return all(pod.phase in (Phase.SCHEDULED, Phase.RUNNING, Phase.SUCCEEDED) for pod in self.pods)
