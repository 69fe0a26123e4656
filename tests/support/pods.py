"""Pods for tests: small, and right unless a test makes them wrong."""

from bastide.pods.normalise import Admission, admit
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy
from bastide.units import GIB, MIB, Bytes

PINNED = "registry.example/demo@sha256:" + "ab" * 32
CLASSES = {"small": Bytes(56 * MIB), "large": Bytes(16 * GIB)}
EPC = "sgx.intel.com/epc"

Tree = dict[str, object]


def container(limits: Tree | None = None, **fields: object) -> Tree:
    """A container with a pinned private image that asks ``limits``."""
    resources: Tree = {"resources": {"limits": limits}} if limits else {}
    return {"name": "app", "image": PINNED, **resources, **fields}


def pod(*containers: Tree, annotations: Tree | None = None, **spec: object) -> Tree:
    """A pod of ``containers``; ``spec`` goes beside them."""
    metadata: Tree = {"annotations": annotations} if annotations else {}
    return {"metadata": metadata, "spec": {"containers": list(containers), **spec}}


def admitted(
    tree: Tree,
    policy: AdmissionPolicy = DEFAULT_POLICY,
    *,
    namespace: str = "default",
    declared: dict[str, Bytes] | None = None,
    present: tuple[Bytes, ...] = (Bytes(16 * GIB),),
) -> Admission:
    """``admit`` in a cluster of two declared classes, the larger of them present."""
    return admit(
        tree,
        namespace=namespace,
        policy=policy,
        declared_classes=CLASSES if declared is None else declared,
        present_epc=present,
    )


def codes(admission: Admission) -> list[tuple[str, str]]:
    """Severity and code of every finding."""
    return [(finding.severity.value, finding.code) for finding in admission.findings]
