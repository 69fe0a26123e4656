"""The signer gate in mode ``enforce``, and what becomes of pods at it."""

from http import HTTPStatus
from typing import Any

from e2e.api import ApiError, eventually
from e2e.cluster import PODS
from e2e.config import REGISTRY
from e2e.installed import VALUES, Installed, refusal, sgx_pod

ENFORCED: dict[str, Any] = VALUES | {
    "policy": {"signerGate": {"mode": "enforce"}},
    "scanner": {"privateRegistries": [f"http://{REGISTRY}/team"]},
}


def enforce(release: Installed) -> None:
    """Shut the gate for every enclave, unless it is shut."""
    if release.ensure(ENFORCED):
        eventually(lambda: require_enforced(release))


def require_enforced(release: Installed) -> None:
    """Every replica of the webhook has the new policy: an image outside the list is refused, ten times in a row."""
    for _ in range(10):
        probe = sgx_pod("probe", "elsewhere/app:1")
        said = refusal(lambda probe=probe: release.cluster.api.create(f"{PODS}?dryRun=All", probe))
        assert "elsewhere/app" in said


def trusted_signer(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A TrustedSigner."""
    return {
        "apiVersion": "bastide.dev/v1alpha1",
        "kind": "TrustedSigner",
        "metadata": {"name": name},
        "spec": spec,
    }


def created(release: Installed, pod: dict[str, Any], *, path: str = PODS) -> None:
    """Create a pod; a webhook that asks to try again is asked again, as kubectl does."""

    def attempt() -> None:
        try:
            release.cluster.api.create(path, pod)
        except ApiError as error:
            if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            raise RuntimeError(f"refused: {error}") from error

    eventually(attempt)


def refused_event(release: Installed, name: str) -> str:
    """Why the controller leaves the pod behind the gate, as soon as it says so."""

    def look() -> str:
        told = release.events(name, "EnclaveRefused")
        assert told, f"nothing is said about {name}"
        return told[0]

    return eventually(look)


def judged_running(release: Installed, name: str) -> dict[str, Any]:
    """The pod as soon as it runs, with all the time that a look into its image takes."""
    eventually(lambda: require_let_go(release, name))
    return release.cluster.running(name)


def require_let_go(release: Installed, name: str, *, path: str = PODS) -> None:
    """The gate is off."""
    pod = release.cluster.api.get(f"{path}/{name}")
    assert not pod["spec"].get("schedulingGates"), release.events(name, "EnclaveRefused")
