"""The signer gate, with real signed enclaves in images of a real registry; mode ``warn`` at the end."""

import base64
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from bastide.cluster.scanner.confine import landlock
from e2e.api import connect_in, eventually
from e2e.certs import NODE_ADDRESS
from e2e.cluster import PODS, busybox_pod
from e2e.config import REGISTRY
from e2e.gated import created, enforce, judged_running, refused_event, require_let_go, trusted_signer
from e2e.installed import GATE, Installed, refusal, sgx_pod
from support.vectors import vectors

# What is asked of ``late`` takes minutes: it begins here, and its outcome is looked at with the statements.
pytestmark = pytest.mark.usefixtures("tidy_chart", "late")
ENCLAVES = vectors("enclave")
# Signal's contact discovery, and Intel's provisioning certification enclave: two signers, both measured by us.
(KNOWN,) = (ENCLAVES / "oe").glob("cdsi-*.signed")
UNKNOWN = ENCLAVES / "intel-sdk" / "intel-libsgx_pce.signed.so.1.25.100.1"
UNKNOWN_SIGNER = "c54a62f2be9ef76efb1f3930ad81ea7f60defc1f5f25e09b7c067a815ae0c6cb"
KNOWN_SIGNER = "fc1ec5b81f576768943b7e25cb967e59117faa793ec147be76d344e6dfeb535b"
IMAGES = "/apis/bastide.dev/v1alpha1/enclaveimages"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
SWAPPER = Path(__file__).with_name("swapper.py")
SWAPPER_PORT = 9443


def signed(enclave: Path) -> dict[str, bytes]:
    """Files of an image that starts this enclave."""
    return {"app/enclave.signed.so": enclave.read_bytes()}


@pytest.fixture(scope="module")
def gated(release: Installed) -> Installed:
    """The release with its gate shut for all enclaves but those of one signer."""
    enforce(release)
    release.apply(trusted_signer("known", {"mrSigner": KNOWN_SIGNER, "namespaces": ["default"]}))
    registry = release.cluster.registry
    registry.push_busybox("team/known:1", signed(KNOWN))
    registry.push_busybox("team/unknown:1", signed(UNKNOWN))
    registry.push_busybox("team/none:1", {})
    return release


def report_of(installed: Installed, digest: str) -> dict[str, Any]:
    """What the scanner found in an image, as soon as it has looked."""
    return eventually(lambda: installed.cluster.api.get(f"{IMAGES}/{digest.replace(':', '-')}"))


def test_a_known_signer_s_enclave_waits_for_inspection_and_then_runs_by_digest(gated: Installed) -> None:
    digest = gated.cluster.registry.push_busybox("team/known:first", {**signed(KNOWN), "first": b"time\n"})
    created(gated, sgx_pod("known", "team/known:first"))
    pod = gated.cluster.pod("known")
    assert pod["spec"]["containers"][0]["image"] == f"{REGISTRY}/team/known@{digest}"
    running = judged_running(gated, "known")
    assert digest in running["status"]["containerStatuses"][0]["imageID"]
    report = report_of(gated, digest)["report"]
    (enclave,) = report["manifests"][0]["enclaves"]
    assert enclave["path"].endswith("app/enclave.signed.so")
    assert gated.events("known", "EnclavesAccepted")


def test_an_unknown_signer_s_enclave_stays_behind_the_gate_and_the_next_pod_is_refused_at_once(
    gated: Installed,
) -> None:
    gated.cluster.registry.push_busybox("team/unknown:first", {**signed(UNKNOWN), "first": b"time\n"})
    pod = sgx_pod("unknown", "team/unknown:first")
    created(gated, pod)
    said = refused_event(gated, "unknown")
    assert UNKNOWN_SIGNER in said
    waiting = gated.cluster.pod("unknown")
    assert waiting["spec"]["schedulingGates"] == [{"name": GATE}]
    assert "nodeName" not in waiting["spec"]
    pod["metadata"]["name"] = "unknown-again"
    assert "enclave" in refusal(lambda: gated.cluster.create_pod(pod))


def test_an_image_without_an_enclave_holds_no_device(gated: Installed) -> None:
    pod = sgx_pod("none", "team/none:1")
    created(gated, pod)
    assert "no enclave" in refused_event(gated, "none")


def test_what_looks_into_images_is_locked_in_within_the_pod_s_own_bounds(gated: Installed) -> None:
    """No privilege, no capability, seccomp RuntimeDefault: all that this kernel has is used, by scans that succeed."""
    (address,) = gated.addresses("scanner")
    status, text = gated.page((address, 8443), "/metrics", tls=True)
    assert status == HTTPStatus.OK
    assert 'bastide_scanner_confinement{by="calls"} 1.0' in text
    assert f'bastide_scanner_confinement{{by="landlock"}} {float(landlock.version())}' in text
    assert 'bastide_scanner_scans_total{result="report"}' in text


def test_pods_without_sgx_are_not_looked_at(gated: Installed) -> None:
    gated.cluster.create_pod(busybox_pod("plain"))
    gated.cluster.running("plain")


def test_a_tag_that_is_moved_after_the_review_changes_nothing(gated: Installed) -> None:
    reviewed = gated.cluster.registry.push_busybox("team/moved:1", {**signed(KNOWN), "before": b"the move\n"})
    created(gated, sgx_pod("moved", "team/moved:1", script="cat /before"))
    other = gated.cluster.registry.push_busybox("team/moved:1", {**signed(UNKNOWN), "before": b"never\n"})
    assert other != reviewed
    eventually(lambda: require_let_go(gated, "moved"))
    pod = gated.cluster.in_phase("moved", "Succeeded")
    assert reviewed in pod["status"]["containerStatuses"][0]["imageID"]
    assert gated.cluster.log("moved") == "the move\n"


@pytest.fixture
def accepted(gated: Installed) -> Installed:
    """The known image was looked into."""
    created(gated, sgx_pod("accepted", "team/known:1"))
    judged_running(gated, "accepted")
    return gated


def test_the_image_of_a_running_pod_cannot_be_patched_to_another_s(accepted: Installed) -> None:
    digest = accepted.cluster.registry.push_busybox("team/unknown:1", signed(UNKNOWN))
    for image in (f"{REGISTRY}/team/unknown:1", f"{REGISTRY}/team/unknown@{digest}"):
        patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": image}]
        said = refusal(lambda patch=patch: accepted.cluster.api.patch(f"{PODS}/accepted", patch))
        assert "denied the request" in said
    unchanged = accepted.cluster.pod("accepted")
    assert "/team/known@sha256:" in unchanged["spec"]["containers"][0]["image"]


def test_an_ephemeral_container_is_judged_too(accepted: Installed) -> None:
    digest = accepted.cluster.registry.push_busybox("team/unknown:1", signed(UNKNOWN))
    debugger = {"name": "debugger", "image": f"{REGISTRY}/team/unknown@{digest}", "command": ["sleep", "1000"]}
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    path = f"{PODS}/accepted/ephemeralcontainers"
    assert "denied the request" in refusal(lambda: accepted.cluster.api.patch(path, patch, kind="merge"))


def test_nobody_but_the_controller_takes_the_gate_off(gated: Installed) -> None:
    gated.cluster.registry.push_busybox("team/unknown:gated", signed(UNKNOWN))
    created(gated, sgx_pod("gated", "team/unknown:gated", script="true"))
    pod = gated.cluster.pod("gated")
    assert pod["spec"]["schedulingGates"] == [{"name": GATE}]
    # Even the cluster's administrator, who may do everything by RBAC.
    refused_event(gated, "gated")
    patch = [{"op": "remove", "path": "/spec/schedulingGates"}]
    assert "denied the request" in refusal(lambda: gated.cluster.api.patch(f"{PODS}/gated", patch))
    assert gated.cluster.pod("gated")["spec"]["schedulingGates"] == [{"name": GATE}]


@pytest.fixture
def swapped(accepted: Installed) -> Iterator[Installed]:
    """A webhook after ours puts an unknown image, by digest, into each pod that asks for it by a label."""
    cluster = accepted.cluster
    digest = cluster.registry.push_busybox("team/unknown:swapped", signed(UNKNOWN))
    pki = cluster.box.folder / "pki"
    files = (str(pki / "kubelet-server.crt"), str(pki / "kubelet-server.key"))
    image = f"{REGISTRY}/team/unknown@{digest}"
    part = cluster.box.part("swapper", sys.executable, str(SWAPPER), *files, str(SWAPPER_PORT), image)
    part.start()
    eventually(lambda: connect_in(cluster.box.network, (NODE_ADDRESS, SWAPPER_PORT)).close())
    bundle = base64.b64encode((pki / "ca.crt").read_bytes()).decode()
    webhook = {
        "name": "swap.example.com",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": f"https://{NODE_ADDRESS}:{SWAPPER_PORT}/", "caBundle": bundle},
        "objectSelector": {"matchLabels": {"swap": "me"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "sideEffects": "None",
    }
    cluster.api.create(WEBHOOKS, {"metadata": {"name": "zz-swapper"}, "webhooks": [webhook]})
    eventually(lambda: require_swap(accepted, image))
    yield accepted
    cluster.api.delete(f"{WEBHOOKS}/zz-swapper")
    part.stop()


def require_swap(installed: Installed, image: str) -> None:
    """The API server asks the other webhook."""
    plain = busybox_pod("plain")
    plain["metadata"]["labels"] = {"swap": "me"}
    made = installed.cluster.api.create(f"{PODS}?dryRun=All", plain)
    assert made["spec"]["containers"][0]["image"] == image


def test_another_webhook_that_swaps_the_image_after_ours_gains_nothing(swapped: Installed) -> None:
    created(swapped, sgx_pod("seen", "team/unknown:swapped"))
    refused_event(swapped, "seen")
    pod = sgx_pod("swapped", "team/known:1")
    pod["metadata"]["labels"] = {"swap": "me"}
    said = refusal(lambda: swapped.cluster.create_pod(pod))
    assert "team/unknown" in said
    assert "denied the request" in said
