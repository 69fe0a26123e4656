"""Everything that admission has to say about a pod: refusals with reason and remedy, and warnings.

Pods that ask nothing of SGX are judged only by what concerns every pod: names of containers, image references, host
paths to SGX devices and the quoting daemon, block devices in their place, privileges, tolerations of the SGX taint.
"""

from collections.abc import Iterator, Mapping, Sequence

from bastide.pods import lint_containers, lint_pod, lint_process, lint_sgx
from bastide.pods.findings import Finding, worst_first
from bastide.pods.policy import AdmissionPolicy
from bastide.pods.request import SgxRequest
from bastide.units import Bytes


def lint(
    pod: Mapping[str, object],
    request: SgxRequest,
    *,
    namespace: str,
    policy: AdmissionPolicy,
    declared_classes: Mapping[str, Bytes],
    present_epc: Sequence[Bytes] | None,
) -> tuple[Finding, ...]:
    """All findings about ``pod``, worst first.

    Pods of ``policy.exempt_namespaces`` are the node's own equipment: their host paths, devices, privileges and
    tolerations draw none.

    Args:
        pod: the pod as given, with ``metadata`` and ``spec``.
        request: what it asks of SGX, from :func:`~bastide.pods.request.sgx_request`.
        namespace: where the pod is to run.
        policy: the cluster's admission policy.
        declared_classes: bytes of allocatable EPC of each node class that the cluster may have.
        present_epc: bytes of allocatable EPC of each node that runs now; None where no cluster was asked.
    """
    findings = [*_about_every_pod(pod, request, policy)]
    if not policy.exempts(namespace):
        findings += _reach_past_checks(pod, request, policy)
    if any(ask.asks for ask in request.containers):
        findings += lint_sgx.provision(pod, request, policy, namespace)
        findings += lint_sgx.socket(pod, request)
        findings += lint_sgx.devices(request)
        findings += lint_sgx.capacity(request, declared_classes, present_epc)
        findings += lint_pod.windows(pod)
        findings += lint_pod.foreign_labels(pod)
        findings += lint_process.processes(pod, request)
    return worst_first(findings)


def _about_every_pod(pod: Mapping[str, object], request: SgxRequest, policy: AdmissionPolicy) -> Iterator[Finding]:
    yield from lint_sgx.problems(request)
    yield from lint_sgx.too_small(request)
    yield from lint_sgx.quote_provider(request)
    yield from lint_containers.names(pod)
    yield from lint_containers.images(pod, policy)


def _reach_past_checks(pod: Mapping[str, object], request: SgxRequest, policy: AdmissionPolicy) -> Iterator[Finding]:
    """Ways to SGX that need no resource: the node's own equipment uses them, and nobody else should."""
    yield from lint_pod.host_paths(pod, request)
    yield from lint_containers.volume_devices(pod)
    yield from lint_containers.privileged(request, policy)
    yield from lint_pod.tolerations(pod, asks_sgx=request.wants_sgx)
    yield from lint_pod.sgx_nodes(pod, request)
