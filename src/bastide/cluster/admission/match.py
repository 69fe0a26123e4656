"""Which pods the API server asks us about: CEL expressions for ``matchConditions`` and the guard policy.

The expressions select at least the pods that ``Subject.is_sgx`` calls SGX pods: what is selected and is none comes
back untouched. They must never fail, because with ``failurePolicy: Fail`` that refuses a pod that is none of ours;
so every field is asked for with ``has``, and null is thought of (admission runs before validation).

Source: Kubernetes "Dynamic Admission Control" (matchConditions), "Common Expression Language in Kubernetes",
"Validating Admission Policy"; ``pods.hostpaths`` for the paths, ``pods.resources`` for the names.
"""

from typing import Final

from bastide.pods.quota import OLD_ENTRIES
from bastide.pods.request import QUOTE_PROVIDER
from bastide.pods.resources import EPC, PROVISION, QE, REGISTRATION

SGX_NAME: Final = "(?i)sgx.*/|/.*sgx|^bastide[.]dev/"
"""RE2. Matches every resource name of the SGX family, known or misspelt (``looks_like_sgx``)."""

GUARDED_PATH: Final = (
    r"(?s)^[/.]*(proc/.*(root|cwd)[/.]*)?"
    r"(dev([/.]+(sgx|isgx|gsgx|char).*)?|(var[/.]+)?run([/.]+aesmd.*)?|var)?[/.]*$"
)
"""RE2. Matches every host path that is, or is above or below, ``/dev/sgx*``, ``/dev/isgx``, ``/var/run/aesmd`` and
what else ``guarded_relation`` names, however many slashes and dots it is written with."""

_PROVISION_NAME: Final = "^(" + "|".join(one.replace(".", "[.]") for one in (PROVISION, QE, REGISTRATION)) + ")$"
_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")


def sgx_pod(pod: str) -> str:
    """CEL: is the pod (or template) that the identifier ``pod`` names an SGX pod?"""
    by_annotation = (
        f"(has({pod}.metadata) && has({pod}.metadata.annotations) && '{QUOTE_PROVIDER}' in {pod}.metadata.annotations)"
    )
    asks = _any_container(pod, f"({_asks('c', SGX_NAME)})")
    as_a_whole = _asks(f"{pod}.spec", SGX_NAME)
    return f"has({pod}.spec) && ({by_annotation} || {asks} || ({as_a_whole}) || {guarded_volume(pod)})"


def provision_pod(pod: str) -> str:
    """CEL: does some container ask for the provision device, by any of its names?"""
    return _any_container(pod, f"({_asks('c', _PROVISION_NAME)})")


def privileged_pod(pod: str) -> str:
    """CEL: has the pod a privileged container?"""
    privileged = "(has(c.securityContext) && has(c.securityContext.privileged) && c.securityContext.privileged == true)"
    return f"has({pod}.spec) && {_any_container(pod, privileged)}"


def _any_container(pod: str, condition: str) -> str:
    """CEL: some container ``c`` meets the condition; of any type, for that of a quantity is unknown to the API server's
    type checking of policies, which would warn of undefined fields."""
    one_list = (
        "(has({pod}.spec.{kind}) && type({pod}.spec.{kind}) != null_type"
        " && dyn({pod}.spec.{kind}).exists(c, {condition}))"
    )
    return "(" + " || ".join(one_list.format(pod=pod, kind=kind, condition=condition) for kind in _LISTS) + ")"


def _asks(holder: str, names: str) -> str:
    """CEL: are there resources of such names in limits or requests of ``holder``?"""
    lists = " || ".join(
        f"(has({holder}.resources.{kind}) && {holder}.resources.{kind}.exists(k, k.matches('{names}')))"
        for kind in ("limits", "requests")
    )
    return f"has({holder}.resources) && ({lists})"


def guarded_volume(pod: str) -> str:
    """CEL: has the pod a host path to SGX devices or the quoting daemon?"""
    return (
        f"(has({pod}.spec.volumes) && {pod}.spec.volumes.exists(v,"
        " has(v.hostPath) && has(v.hostPath.path) && v.hostPath.path != ''"
        f" && v.hostPath.path.matches('{GUARDED_PATH}')))"
    )


IS_SGX_POD: Final = sgx_pod("object")
"""matchCondition of the pod webhooks."""

MATTERS: Final = "request.operation != 'UPDATE' || object.spec != oldObject.spec || " + " || ".join(
    "("
    + " != ".join(
        f"(has({one}.metadata.annotations)"
        f" && '{key}' in {one}.metadata.annotations ? {one}.metadata.annotations['{key}'] : '')"
        for one in ("object", "oldObject")
    )
    + ")"
    for key in (EPC, QUOTE_PROVIDER)
)
"""matchCondition: an update that changes neither the spec nor an annotation of SGX is let through unseen, so that
controllers can take labels and finalizers off SGX pods while the webhook is down."""

IS_PRIVILEGED_POD: Final = f"({privileged_pod('object')}) && !({IS_SGX_POD})"
"""matchCondition of the webhook for privileged pods that ask nothing of SGX."""

IS_SGX_WORKLOAD: Final = (
    "has(object.spec) && [has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template : object.spec.template]"
    f".exists(pod, {sgx_pod('pod')})"
)
"""matchCondition of the webhook for workloads, CronJobs among them."""

NAMES_OLD_EPC: Final = (
    "has(object.spec) && has(object.spec.hard) && type(object.spec.hard) != null_type"
    f" && object.spec.hard.exists(k, k in [{', '.join(repr(entry) for entry in OLD_ENTRIES)}])"
)
"""matchCondition of the webhook for quotas: an entry that nothing is counted by, once pods are rewritten."""

QUOTA_MATTERS: Final = "request.operation != 'UPDATE' || object.spec != oldObject.spec"
"""matchCondition: labels and finalizers of quotas change while the webhook is down, too."""
