"""The webhook configurations, and the guard policy that holds while no webhook answers.

The chart's templates say the same (tests compare), for people who install without the chart.

Source: Kubernetes "Dynamic Admission Control", "Validating Admission Policy" (GA 1.30).
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bastide.cluster.admission.match import (
    IS_PRIVILEGED_POD,
    IS_SGX_POD,
    IS_SGX_WORKLOAD,
    MATTERS,
    NAMES_OLD_EPC,
    QUOTA_MATTERS,
    guarded_volume,
    provision_pod,
)
from bastide.pods.policy import PrivilegedPods
from bastide.pods.request import QUOTE_PROVIDER
from bastide.pods.resources import PROVISION

Tree = dict[str, object]

MUTATE_PATH: Final = "/mutate"
VALIDATE_PATH: Final = "/validate"
WARN_PATH: Final = "/warn"

TIMEOUT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where the webhooks are and whom they leave alone.

    Attributes:
        name: of the configurations, such as ``bastide``.
        service: name of the Service before the admission pods.
        namespace: of the release; its pods and those of kube-system are never judged.
        port: of the Service.
        ca_bundle: PEM certificates; empty: the admission process writes them.
        privileged: by ``refuse`` privileged pods are kept out while the webhook is down, too.
    """

    name: str
    service: str
    namespace: str
    port: int = 443
    ca_bundle: bytes = b""
    privileged: PrivilegedPods = PrivilegedPods.WARN

    @property
    def mutating(self) -> str:
        """Name of the MutatingWebhookConfiguration."""
        return f"{self.name}-pods"

    @property
    def validating(self) -> tuple[str, str]:
        """Names of the ValidatingWebhookConfigurations: of pods, of workloads."""
        return f"{self.name}-pods", f"{self.name}-workloads"


def webhook_configurations(settings: WebhookSettings) -> tuple[Tree, ...]:
    """The configurations: mutating, validating, and for workloads the one that never stands in the way."""
    pods, workloads = settings.validating
    new_pods = _rule("CREATE", "", "pods")
    changed_pods = _rule("UPDATE", "", "pods", "pods/ephemeralcontainers")
    conditions = (("is-sgx-pod", IS_SGX_POD), ("matters", MATTERS))
    mutate = _webhook(settings, "mutate.pods.bastide.dev", MUTATE_PATH, (new_pods, changed_pods), conditions)
    mutate |= {"reinvocationPolicy": "IfNeeded", "sideEffects": "NoneOnDryRun"}
    quotas = _webhook(
        settings,
        "mutate.quotas.bastide.dev",
        MUTATE_PATH,
        (_rule(("CREATE", "UPDATE"), "", "resourcequotas"),),
        (("names-old-epc", NAMES_OLD_EPC), ("matters", QUOTA_MATTERS)),
    )
    quotas["reinvocationPolicy"] = "IfNeeded"
    validate = _webhook(settings, "validate.pods.bastide.dev", VALIDATE_PATH, (new_pods, changed_pods), conditions)
    privileged = _webhook(
        settings,
        "privileged.pods.bastide.dev",
        VALIDATE_PATH,
        (new_pods, _rule("UPDATE", "", "pods/ephemeralcontainers")),
        (("is-privileged-pod", IS_PRIVILEGED_POD),),
    )
    privileged["failurePolicy"] = "Fail" if settings.privileged is PrivilegedPods.REFUSE else "Ignore"
    warn = _webhook(
        settings,
        "warn.workloads.bastide.dev",
        WARN_PATH,
        (
            _rule(("CREATE", "UPDATE"), "apps", "deployments", "replicasets", "daemonsets", "statefulsets"),
            _rule(("CREATE", "UPDATE"), "batch", "jobs", "cronjobs"),
        ),
        (("is-sgx-workload", IS_SGX_WORKLOAD),),
    )
    warn |= {"failurePolicy": "Ignore", "timeoutSeconds": 3}
    return (
        _configuration("MutatingWebhookConfiguration", settings.mutating, mutate, quotas),
        _configuration("ValidatingWebhookConfiguration", pods, validate, privileged),
        _configuration("ValidatingWebhookConfiguration", workloads, warn),
    )


def guard_policy(name: str, *, namespace: str, provision: Sequence[str], exempt: Sequence[str]) -> tuple[Tree, Tree]:
    """A ValidatingAdmissionPolicy and its binding, which hold while no webhook answers.

    It knows less than the webhook: whole namespaces, not service accounts and images.

    Args:
        name: of both.
        namespace: of the release.
        provision: namespaces in which some service account may have the provision device.
        exempt: namespaces of the policy's ``exemptNamespaces``.
    """
    allowed = [f"request.namespace in {_texts(provision)}", f"!({provision_pod('object')})"]
    policy: Tree = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": _elsewhere(["kube-system", namespace, *exempt]),
                "resourceRules": [_rule("CREATE", "", "pods")],
            },
            "matchConditions": [{"name": "is-sgx-pod", "expression": IS_SGX_POD}],
            "validations": [
                {
                    "expression": " || ".join(allowed),
                    "message": f"{PROVISION} is not allowed in this namespace: see spec.provision.allow of Bastide's"
                    " admission policy",
                    "reason": "Forbidden",
                },
                {
                    "expression": f"!({guarded_volume('object')})",
                    "message": "a hostPath leads to SGX devices or the quoting daemon: ask for sgx.intel.com/epc, or"
                    f" annotate {QUOTE_PROVIDER}: aesmd",
                    "reason": "Forbidden",
                },
            ],
        },
    }
    binding: Tree = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return policy, binding


def _rule(verbs: str | Sequence[str], group: str, *resources: str) -> Tree:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": [verbs] if isinstance(verbs, str) else list(verbs),
        "resources": list(resources),
        "scope": "Namespaced",
    }


def _webhook(
    settings: WebhookSettings,
    name: str,
    path: str,
    rules: Sequence[Tree],
    conditions: Sequence[tuple[str, str]],
) -> Tree:
    service = {
        "name": settings.service,
        "namespace": settings.namespace,
        "path": path,
        "port": settings.port,
    }
    bundle = {"caBundle": b64encode(settings.ca_bundle).decode()} if settings.ca_bundle else {}
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": service, **bundle},
        "rules": list(rules),
        "namespaceSelector": _elsewhere(["kube-system", settings.namespace]),
        "matchConditions": [{"name": one, "expression": expression} for one, expression in conditions],
        "matchPolicy": "Equivalent",
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }


def _elsewhere(namespaces: Sequence[str]) -> Tree:
    """All but these; the label is the API server's own and says the name."""
    values = list(dict.fromkeys(namespaces))
    expression = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": values}
    return {"matchExpressions": [expression]}


def _configuration(kind: str, name: str, *webhooks: Tree) -> Tree:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }


def _texts(values: Sequence[str]) -> str:
    """CEL: a list of texts; names of namespaces need no escapes, and others are refused."""
    if not all(value.replace("-", "").isalnum() and value.isascii() for value in values):
        raise ValueError(f"expected names of namespaces, seen {values!r}")
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"
