"""The controller's process, a make-believe API server beside it, and the pods that it looks at."""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from bastide.cluster.controller.build import ControllerOptions, build_controller
from bastide.cluster.resolving import Resolved
from bastide.kube.follow import FollowSettings
from bastide.kube.lease import LeaseSettings
from support.api_server import api_server
from support.bounded import run_bounded
from support.gate import DIGEST, REPOSITORY, enclave, report, trusted_tree
from support.kube_objects import KubeObjects
from support.pods import EPC, container, pod

GROUP = "/apis/bastide.dev/v1alpha1"
SIGNER = f"{GROUP}/trustedsigners/payments"
REPORT = f"{GROUP}/enclaveimages/sha256-{'ab' * 32}"
POD = "/api/v1/namespaces/payments/pods/app"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/bastide-system/leases/bastide-controller"
EVENTS = "/apis/events.k8s.io/v1/namespaces/payments/events"
GATE = {"name": "bastide.dev/enclave-inspection"}
IMAGE = f"{REPOSITORY}@{DIGEST}"
FAST = {
    "election": LeaseSettings(duration=5, deadline=3.0, retry=0.05, release=1.0),
    "follow": FollowSettings(watch=30, silence=5, first_delay=0.02, longest_delay=0.1),
    "asked_again": 0.1,
}


def gated_pod(name="app", *, image=IMAGE, owner=None, **metadata):
    tree = pod(container({EPC: "10Mi"}, image=image), schedulingGates=[GATE], imagePullSecrets=[{"name": "pull"}])
    tree["metadata"] = {"name": name, "namespace": "payments", "uid": f"u-{name}", "annotations": {}, **metadata}
    tree["metadata"]["annotations"]["bastide.dev/changed"] = "image"
    if owner:
        tree["metadata"]["ownerReferences"] = [{"kind": owner, "name": "web-1", "controller": True}]
    return tree


def policy_file(tmp_path, mode="enforce"):
    path = tmp_path / "policy.yaml"
    path.write_text(
        f"apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec: {{signerGate: {{mode: {mode}}}}}\n"
    )
    return path


class Scanner:
    """Answers as told, and remembers what it was asked."""

    def __init__(self, answer=None):
        self.asked = []
        self.answer = answer

    async def resolve(self, namespace, pull_secrets, service_account, images, *, dry_run):
        self.asked.append((namespace, tuple(pull_secrets), service_account, tuple(map(str, images)), dry_run))
        return {image: self.answer or Resolved(digest=image.digest) for image in images}


@asynccontextmanager
async def running(api, tmp_path, *, scanner=None, mode="enforce", identity="one", **options):
    path = options.pop("policy", None) or policy_file(tmp_path, mode)
    controller = build_controller(
        api.access,
        scanner,
        ControllerOptions(policy=path, listen=("127.0.0.1", 0), identity=identity, **{**FAST, **options}),
        chance=lambda: 0.0,
    )
    task = asyncio.ensure_future(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def with_objects(test, *objects):
    kept = KubeObjects()
    for path, tree in objects:
        kept.put(path, tree)
    with api_server(kept) as api:
        run_bounded(lambda: test(api, kept))


def is_gated(kept, path=POD):
    return bool(kept.objects[path]["spec"]["schedulingGates"])


def annotation(kept, path=POD):
    return kept.objects[path]["metadata"]["annotations"].get("bastide.dev/gate", "")


def events(kept):
    return [(tree["reason"], tree["note"]) for path, tree in kept.objects.items() if path.startswith(EVENTS)]


def is_pending(kept, path=POD):
    return "bastide.dev/inspection" in kept.objects[path]["metadata"].get("labels", {})


GOOD = ((SIGNER, trusted_tree()), (REPORT, report(enclave()).build()))


def old(**changes):
    """A report that was made long ago."""
    return report(**changes, scanned_at=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)).build()
