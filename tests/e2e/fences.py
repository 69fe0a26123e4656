"""What is asked of every fence around one of our service accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.api import Api, eventually

DENIED = "denied request"
"""What the API server says where an admission policy refuses; RBAC says otherwise."""

_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


@contextmanager
def rights_of_an_administrator(api: Api, namespace: str, account: str) -> Iterator[None]:
    """Somebody gives a service account far too much by RBAC."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    binding = {"metadata": {"name": f"too-much-{account}"}, "roleRef": role, "subjects": [subject]}
    api.create(_BINDINGS, binding)
    yield
    api.delete(f"{_BINDINGS}/too-much-{account}")


def require_good_expressions(api: Api, *policies: str) -> None:
    """The API server finds nothing wrong with the types of the policies' expressions."""
    for name in policies:

        def checked(name: str = name) -> dict[str, Any]:
            policy = api.get(f"{_POLICIES}/{name}")
            assert policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
            return policy["status"]

        assert eventually(checked).get("typeChecking", {}) == {}
