"""CPU and memory of the cluster's controller against a make-believe API server in another process.

python -m bench.controller [GATED [PODS]]      default 2000 gated pods of 20,000: each is judged and let go
python -m bench.controller signer [GATED]      all are refused; then TrustedSigners change
python -m bench.controller warn [MARKED]       mode warn: pods that run are judged, and told about

The server selects as a real one does: of pods that run without our label the controller is sent nothing. It never asks
for nodes, so 5,000 of them are only names that pods carry. The scanner is make-believe, and counts what it is asked.
"""

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bastide.cluster.controller.build import Controller, ControllerOptions, build_controller
from bastide.cluster.controller.gatekeeper import Gatekeeper, Outcome
from bastide.cluster.resolving import Resolved
from bastide.kube.access import ClusterAccess
from bastide.kube.lease import LeaseSettings

_IMAGES = 200
_NODES = 5000
_IDLE_SECONDS = 10.0
_LONGEST = 1800.0
_SIGNERS = "/apis/bastide.dev/v1alpha1/trustedsigners"

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What there is: of ``pods`` the first ``concerned`` wait behind the gate, or run with the label."""

    concerned: int
    pods: int
    mode: str = "enforce"
    trusted: bool = True


def _pod(number: int, case: Case) -> dict[str, object]:
    from support.gate import REPOSITORY
    from support.pods import EPC, container, pod

    image = f"{REPOSITORY}@sha256:{number % _IMAGES:064x}"
    env = [{"name": f"V{at}", "value": "x" * 20} for at in range(20)]
    tree = pod(container({EPC: "16Mi"}, image=image, env=env))
    labels = {"app": f"app-{number % _IMAGES}", "pod-template-hash": "5d8f6b9c7"}
    concerns, gated = number < case.concerned, case.mode == "enforce"
    if concerns and gated:
        tree["spec"]["schedulingGates"] = [{"name": "bastide.dev/enclave-inspection"}]
    else:
        tree |= {"status": {"phase": "Running"}}
        tree["spec"]["nodeName"] = f"node-{number % _NODES}"
    if concerns and not gated:
        labels["bastide.dev/inspection"] = "pending"
    tree["metadata"] = {
        "name": f"p-{number}",
        "namespace": "a",
        "uid": f"u-{number}",
        "labels": labels,
        "annotations": {"bastide.dev/changed": "image"},
        "managedFields": [{"manager": "kubelet", "fieldsV1": {f"f:{at}": {"f:x": {}} for at in range(60)}}],
    }
    return tree


def _serve(case: Case, pipe: Connection) -> None:
    """The API server: objects, what was written, and how many pods are still concerned."""
    from support.api_server import api_server
    from support.gate import enclave, report, trusted_tree
    from support.kube_objects import KubeObjects

    kept = KubeObjects()
    if case.trusted:
        kept.put(f"{_SIGNERS}/payments", trusted_tree())
    for number in range(_IMAGES):
        tree = report(enclave(), digest=f"sha256:{number:064x}").build()
        kept.put(f"/apis/bastide.dev/v1alpha1/enclaveimages/{tree['metadata']['name']}", tree)
    for number in range(case.pods):
        kept.put(f"/api/v1/namespaces/a/pods/p-{number}", _pod(number, case))
    kept.events.clear()

    def concerned() -> int:
        with kept.changed:
            pods = [tree for path, tree in kept.objects.items() if "/pods/" in path]
        return sum(
            bool(tree["spec"].get("schedulingGates")) or "bastide.dev/inspection" in tree["metadata"]["labels"]
            for tree in pods
        )

    def written() -> dict[str, int]:
        asked = list(api.asked)
        patches = sum(one.method == "PATCH" and "/pods/" in one.path for one in asked)
        return {"pod_writes": patches, "event_writes": sum("/events" in one.path for one in asked)}

    def trust(name: str, **spec: object) -> None:
        kept.put(f"{_SIGNERS}/{name}", trusted_tree(name, **spec))

    with api_server(kept) as api:
        pipe.send(api.access.port)
        for name, arguments in iter(pipe.recv, None):
            pipe.send({"concerned": concerned, "written": written, "trust": trust}[name](**arguments))


class _Scanner:
    """Has an answer to everything, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(self, *asked: object, dry_run: bool) -> dict[object, Resolved]:  # noqa: ARG002
        self.asked += 1
        images = asked[-1]
        return {image: Resolved(digest=image.digest) for image in images}


class _Run:
    """One controller at work, and what it costs."""

    def __init__(self, port: int, pipe: Connection, policy: Path) -> None:
        self._pipe = pipe
        self._longest_step = 0.0
        self.scanner = _Scanner()
        # A machine that others use must not cost the lead: that is not what is measured.
        election = LeaseSettings(duration=600, deadline=500.0)
        options = ControllerOptions(policy=policy, listen=("127.0.0.1", 0), election=election)
        access = ClusterAccess(host="127.0.0.1", port=port)
        self.controller: Controller = build_controller(access, self.scanner, options, chance=lambda: 0.5)

    async def ask(self, question: str, /, **arguments: object) -> Any:
        """Of the server."""
        self._pipe.send((question, arguments))
        return await asyncio.to_thread(self._pipe.recv)

    async def measured(self, done: Callable[[], Awaitable[bool]]) -> Figures:
        """Time, work and writes until ``done`` says so."""
        before: Figures = await self.ask("written")
        asked, began, cpu = self.scanner.asked, time.monotonic(), time.process_time()
        self._longest_step, steps = 0.0, asyncio.ensure_future(self._watch_steps())
        while not await done():
            if time.monotonic() - began > _LONGEST:
                raise TimeoutError("it does not come to an end")
            await asyncio.sleep(1)
        found = {"wall_seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
        steps.cancel()
        found["longest_step_cpu_seconds"] = self._longest_step
        after: Figures = await self.ask("written")
        found |= {name: after[name] - before[name] for name in after}
        return {**found, "scanner_questions": self.scanner.asked - asked}

    async def _watch_steps(self) -> None:
        """How much work the event loop does at a stretch: meanwhile no lease is renewed."""
        while True:
            cpu = time.thread_time()
            await asyncio.sleep(0.01)
            self._longest_step = max(self._longest_step, time.thread_time() - cpu)

    async def nobody_left(self) -> bool:
        """Whether no pod is behind the gate or marked."""
        return await self.ask("concerned") == 0

    @contextmanager
    def all_looked_at(self, pods: int) -> Iterator[Callable[[], Awaitable[bool]]]:
        """Gives the question whether so many different pods were looked at since."""
        seen: set[str] = set()
        look = Gatekeeper.look

        async def noted(keeper: Gatekeeper, key: str) -> Outcome:
            outcome = await look(keeper, key)
            seen.add(key)
            return outcome

        async def all_seen() -> bool:
            return len(seen) >= pods

        Gatekeeper.look = noted
        try:
            yield all_seen
        finally:
            Gatekeeper.look = look


def _resident() -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


async def _let_go(run: _Run, _case: Case) -> Figures:
    before = _resident()
    found = await run.measured(run.nobody_left)
    cpu = time.process_time()
    await asyncio.sleep(_IDLE_SECONDS)
    found["idle_cpu_percent"] = 100 * (time.process_time() - cpu) / _IDLE_SECONDS
    return {**found, **_memory(before)}


async def _signers(run: _Run, case: Case) -> Figures:
    """All refused; a signer that matters to none of them; then the one that lets all go."""
    before, found = _resident(), {}

    async def phase(name: str, done: Callable[[], Awaitable[bool]]) -> None:
        found.update({f"{name}_{what}": figure for what, figure in (await run.measured(done)).items()})

    with run.all_looked_at(case.concerned) as looked:
        await phase("refused", looked)
    with run.all_looked_at(case.concerned) as looked:
        await run.ask("trust", name="other", mrSigner="11" * 32)
        await phase("other_signer", looked)
    await run.ask("trust", name="payments")
    await phase("right_signer", run.nobody_left)
    return {**found, **_memory(before)}


def _memory(before: int) -> Figures:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"resident_mib_before": before, "resident_mib_after": _resident(), "peak_mib": peak}


async def _running(run: _Run, case: Case, work: Callable[[_Run, Case], Awaitable[Figures]]) -> Figures:
    task = asyncio.ensure_future(run.controller.run())
    try:
        async with asyncio.timeout(60):
            while not run.controller.port:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        return await work(run, case)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _server(case: Case) -> Iterator[Connection]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(case, theirs), daemon=True)
    server.start()
    try:
        yield ours
    finally:
        ours.send(None)
        server.join(5)
        server.kill()


def _bench(case: Case, work: Callable[[_Run, Case], Awaitable[Figures]]) -> Figures:
    with _server(case) as pipe, tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        spec = f"spec: {{signerGate: {{mode: {case.mode}}}}}"
        policy.write_text(f"apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\n{spec}\n")
        run = _Run(pipe.recv(), pipe, policy)
        return {"pods": case.pods, "concerned_pods": case.concerned, **asyncio.run(_running(run, case, work))}


def controller(gated: int = 2000, pods: int = 20_000) -> Figures:
    """Decide about ``gated`` pods, then wait."""
    return _bench(Case(concerned=gated, pods=max(gated, pods)), _let_go)


def signer(gated: int = 20_000) -> Figures:
    """Change TrustedSigners while ``gated`` pods are refused."""
    return _bench(Case(concerned=gated, pods=gated, trusted=False), _signers)


def warn(marked: int = 20_000) -> Figures:
    """Tell about ``marked`` pods that run."""
    return _bench(Case(concerned=marked, pods=marked, mode="warn", trusted=False), _let_go)


if __name__ == "__main__":
    kind, *sizes = sys.argv[1:] if sys.argv[1:] and sys.argv[1] in ("signer", "warn") else ("", *sys.argv[1:])
    print(json.dumps({"signer": signer, "warn": warn}.get(kind, controller)(*map(int, sizes))))
