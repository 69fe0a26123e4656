"""CPU and memory of the cluster's controller against a make-believe API server in another process.

python -m bench.controller [GATED]      default 2000 gated pods, of 20,000 on 5,000 nodes

The controller asks for unscheduled pods only, so of 20,000 pods it is sent those that wait, and it never asks for
nodes: their number does not matter to it. Every pod is decided about and patched. With 20000 all pods wait.
"""

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from bastide.cluster.controller.build import ControllerOptions, build_controller
from bastide.kube.access import ClusterAccess

_IMAGES = 200
_IDLE_SECONDS = 10.0


def _serve(gated: int, pipe: Connection) -> None:
    """The API server: objects, and how many pods still wait."""
    from support.api_server import api_server
    from support.gate import REPOSITORY, enclave, report, trusted_tree
    from support.kube_objects import KubeObjects
    from support.pods import EPC, container, pod

    kept = KubeObjects()
    kept.put("/apis/bastide.dev/v1alpha1/trustedsigners/payments", trusted_tree())
    for number in range(_IMAGES):
        digest = f"sha256:{number:064x}"
        tree = report(enclave(), digest=digest).build()
        kept.put(f"/apis/bastide.dev/v1alpha1/enclaveimages/{tree['metadata']['name']}", tree)
    for number in range(gated):
        image = f"{REPOSITORY}@sha256:{number % _IMAGES:064x}"
        tree = pod(
            container({EPC: "16Mi"}, image=image, env=[{"name": f"V{at}", "value": "x" * 20} for at in range(20)]),
            schedulingGates=[{"name": "bastide.dev/enclave-inspection"}],
        )
        managed = [{"manager": "kubelet", "fieldsV1": {f"f:{at}": {"f:x": {}} for at in range(60)}}]
        tree["metadata"] = {
            "name": f"p-{number}",
            "namespace": "a",
            "uid": f"u-{number}",
            "annotations": {"bastide.dev/changed": "image"},
            "managedFields": managed,
        }
        kept.put(f"/api/v1/namespaces/a/pods/p-{number}", tree)
    kept.events.clear()
    with api_server(kept) as api:
        pipe.send(api.access.port)
        while pipe.recv():
            with kept.changed:
                pods = [tree for path, tree in kept.objects.items() if "/pods/" in path]
            pipe.send(sum(1 for tree in pods if tree["spec"]["schedulingGates"]))


def _resident() -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


async def _measure(port: int, pipe: Connection, policy: Path) -> dict[str, float]:
    before, began, cpu = _resident(), time.monotonic(), time.process_time()
    options = ControllerOptions(policy=policy, listen=("127.0.0.1", 0))
    controller = build_controller(ClusterAccess(host="127.0.0.1", port=port), None, options, chance=lambda: 0.5)
    task = asyncio.ensure_future(controller.run())
    waiting = 1
    while waiting and not task.done():
        await asyncio.sleep(1)
        pipe.send(True)
        waiting = await asyncio.to_thread(pipe.recv)
    found = {"wall_seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
    cpu = time.process_time()
    await asyncio.sleep(_IDLE_SECONDS)
    found["idle_cpu_percent"] = 100 * (time.process_time() - cpu) / _IDLE_SECONDS
    found["resident_mib_before"] = before
    found["resident_mib_after"] = _resident()
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return found


def controller(gated: int = 2000) -> dict[str, float]:
    """Decide about ``gated`` pods, then wait."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(gated, theirs), daemon=True)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            policy = Path(folder) / "policy.yaml"
            policy.write_text(
                "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec: {signerGate: {mode: enforce}}\n"
            )
            return {"gated_pods": gated, **asyncio.run(_measure(ours.recv(), ours, policy))}
    finally:
        ours.send(False)
        server.join(5)
        server.kill()


if __name__ == "__main__":
    print(json.dumps(controller(*map(int, sys.argv[1:]))))
