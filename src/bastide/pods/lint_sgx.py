"""Findings about what a pod asks of SGX: devices, provisioning, quotes, and whether any node can hold it.

Source: Kubernetes "Extended resources"; Intel device plugins for Kubernetes v0.36 (SGX); Intel SDM vol. 3D,
"ATTRIBUTES" (PROVISIONKEY); SCONE's and Intel's published manifests.
"""

from collections.abc import Iterator, Mapping, Sequence

from bastide.errors import MalformedError
from bastide.pods.findings import Finding, refuse, warn
from bastide.pods.images import ImageReference
from bastide.pods.lint_containers import image_of
from bastide.pods.policy import AdmissionPolicy
from bastide.pods.quoting import brings_socket, quoting
from bastide.pods.request import AESMD, QUOTE_PROVIDER, ContainerAsk, SgxRequest
from bastide.pods.resources import ENCLAVE, EPC, PROVISION, QE, REGISTRATION, SMALLEST_EPC, Unit, dialect_of
from bastide.pods.tree import Path, at, sequence, text
from bastide.units import Bytes, format_bytes

_USE_SOCKET = f"for quotes without the device annotate {QUOTE_PROVIDER}: {AESMD} (and give no container that name); or "
AESM_VARIABLE = "SGX_AESM_ADDR"
_ANNOTATION: Path = ("metadata", "annotations", QUOTE_PROVIDER)


def problems(request: SgxRequest) -> Iterator[Finding]:
    """What could not be understood is refused."""
    for problem in request.problems:
        yield refuse(problem.code, problem.path, problem.message, problem.hint or "correct the field")


def provision(pod: object, request: SgxRequest, policy: AdmissionPolicy, namespace: str) -> Iterator[Finding]:
    """The provision device, by whatever name it is asked, only for those whom the policy names.

    Intel's ``qe`` and ``registration`` resources hand out the same device and stand under the same rule.
    """
    account = text(at(pod, ("spec", "serviceAccountName"))) or text(at(pod, ("spec", "serviceAccount"))) or "default"
    asked_by_annotation = {ask.path for ask in quoting(pod, request).provision}
    for ask in request.containers:
        by_resource = next((one for one in ask.asks if one.resource in (PROVISION, QE, REGISTRATION)), None)
        if not (ask.provision or ask.qe or ask.registration or ask.path in asked_by_annotation):
            continue
        if policy.allows_provision(namespace=namespace, service_account=account, image=_image(pod, ask)):
            continue
        name = by_resource.resource if by_resource else f"{PROVISION} (by the annotation {QUOTE_PROVIDER})"
        yield refuse(
            "provision.denied",
            by_resource.path if by_resource else _ANNOTATION,
            f"container {ask.name!r} asks for {name}; the admission policy does not allow it to service account"
            f" {account!r} in namespace {namespace!r}",
            f"{_USE_SOCKET}let the cluster's owner add {{namespace: {namespace}, serviceAccount: {account}}} to"
            " spec.provision.allow of the admission policy",
        )


def _image(pod: object, ask: ContainerAsk) -> ImageReference | None:
    try:
        return image_of(at(pod, ask.path))
    except MalformedError:
        return None


def too_small(request: SgxRequest) -> Iterator[Finding]:
    """Pages that come to less than any enclave takes: refused under their own name as under the canonical one."""
    for container in request.containers:
        pages = next(
            (ask for ask in container.asks if (one := dialect_of(ask.resource)) and one.unit is Unit.PAGES), None
        )
        if pages is not None and 0 < container.epc < SMALLEST_EPC:
            yield refuse(
                "epc.too-small",
                pages.path,
                f"{pages.resource} counts {Unit.PAGES}: {pages.quantity} come to {format_bytes(container.epc)}, which"
                f" holds no enclave (at least {format_bytes(SMALLEST_EPC)})",
                f"ask for {EPC} with the size of the enclave, for example 10Mi",
            )


def quote_provider(request: SgxRequest) -> Iterator[Finding]:
    """An annotation without effect: nobody whom it concerns has an enclave."""
    provider = request.quote_provider
    concerned = [ask for ask in request.containers if provider == AESMD or ask.name == provider]
    if concerned and not any(ask.epc or ask.enclave for ask in concerned):
        yield warn(
            "quote-provider.no-enclave",
            _ANNOTATION,
            f"{QUOTE_PROVIDER} is {provider!r}, but no container that it concerns asks for EPC: nothing was added",
            f"ask for {EPC} in the container that runs the enclave, or drop the annotation",
        )


def socket(pod: object, request: SgxRequest) -> Iterator[Finding]:
    """A runtime that is told to quote out of process, in a container to which nothing brings the socket.

    Manifests written for AKS set the variable beside a hostPath: when that is taken out, the annotation is easily
    forgotten, and quotes fail when the enclave runs.
    """
    brought = {ask.path for ask in quoting(pod, request).socket}
    for ask in request.containers:
        container = at(pod, ask.path)
        if not (ask.epc or ask.enclave) or ask.quote or ask.path in brought or brings_socket(container):
            continue
        for index, variable in enumerate(sequence(at(container, ("env",)))):
            if text(at(variable, ("name",))) == AESM_VARIABLE:
                yield warn(
                    "quote-provider.missing",
                    (*ask.path, "env", index, "name"),
                    f"container {ask.name!r} sets {AESM_VARIABLE}, and nothing brings it the socket of AESM: its quotes"
                    " will fail",
                    f"annotate the pod {QUOTE_PROVIDER}: {AESMD}; the node agent then gives socket and variable",
                )


def devices(request: SgxRequest) -> Iterator[Finding]:
    """Enclave devices without an EPC claim, and devices that Bastide does not offer."""
    for ask in request.containers:
        if ask.enclave and not ask.epc:
            yield _unclaimed(ask)
        for one in ask.asks:
            if one.resource in (QE, REGISTRATION):
                yield warn(
                    "resource.not-offered",
                    one.path,
                    f"{one.resource} is a resource of Intel's plugin that Bastide does not offer: the pod stays Pending"
                    " where that plugin does not run",
                    "leave quoting and registration to the node agent and drop the request",
                )


def _unclaimed(ask: ContainerAsk) -> Finding:
    foreign = next(
        (one for one in ask.asks if (dialect := dialect_of(one.resource)) and dialect.canonical == ENCLAVE), None
    )
    where = foreign.path if foreign else ask.path
    if foreign and foreign.resource != ENCLAVE:
        return warn(
            "enclave.device-count",
            where,
            f"{foreign.resource} counts devices, not EPC: container {ask.name!r} gets {ENCLAVE} and claims no EPC",
            f"add {EPC} with the enclave's size, so that the scheduler can count it",
        )
    return warn(
        "enclave.without-epc",
        where,
        f"container {ask.name!r} asks for {ENCLAVE} and claims no EPC: what it uses is taken from other pods unseen",
        f"add {EPC} with the enclave's size",
    )


def capacity(request: SgxRequest, declared: Mapping[str, Bytes], present: Sequence[Bytes] | None) -> Iterator[Finding]:
    """EPC that no node can hold: of no declared class (refused), or of none that runs now (pools scale from zero)."""
    largest_now = max(present or (), default=0)
    largest_ever = max((*declared.values(), largest_now))
    path = next((ask.path for ask in request.containers if ask.epc), ("spec",))
    asked = f"the pod asks for {format_bytes(request.epc)} of EPC"
    if declared and request.epc > largest_ever:
        name = max(declared, key=lambda known: declared[known])
        yield refuse(
            "epc.exceeds-classes",
            path,
            f"{asked}; the largest declared node class, {name}, can allocate {format_bytes(declared[name])}",
            "ask for less, split the pod, or declare a larger node class",
        )
    elif present is not None and request.epc > largest_now:
        yield warn(
            "epc.exceeds-present",
            path,
            f"{asked}; the largest node that runs now can allocate {format_bytes(largest_now)}",
            "the pod stays Pending until a larger node joins: check that its pool can scale up",
        )
