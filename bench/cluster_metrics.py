"""CPU and memory of ``bastide cluster metrics`` against a make-believe API server and agents in another process.

python -m bench.cluster_metrics [NODES [PODS [WITH_EPC]]]     default 5000 nodes, 20000 pods, all of which ask for EPC

Phases: everything is listed; nothing happens while every agent is asked in turn at the default rate; 100 pods a second
change. Then the cost of one look at everything, and of one question of an autoscaler after it.
"""

import asyncio
import json
import multiprocessing
import resource
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from bastide.cluster.metrics import store
from bastide.cluster.metrics.build import MetricsOptions, MetricsProcess
from bastide.cluster.metrics.scrape import ScrapeSettings
from bastide.cluster.metrics.selector import Selector
from bastide.cluster.metrics.trigger import Trigger
from bastide.kube.access import ClusterAccess

_SECONDS = 15.0
_WORKLOADS = 200
_CHANGES = 100


def _pod(number: int, nodes: int, *, epc: bool) -> dict[str, object]:
    from support.epc_measures import pod_tree

    tree = pod_tree(
        f"p-{number}",
        "16Mi",
        node=f"n{number % nodes}" if number % 50 else "",
        namespace=f"team-{number % 20}",
        app=f"app-{number % _WORKLOADS}",
        started=1_000_000_000,
        tolerations=[{"key": "sgx.intel.com/epc", "operator": "Exists"}],
        nodeSelector={"agentpool": "sgx"},
    )
    main = tree["spec"]["containers"][0]
    main["env"] = [{"name": f"V{at}", "value": "x" * 20} for at in range(20)]
    if not epc:
        del main["resources"]
    managed = [{"manager": "kubelet", "fieldsV1": {f"f:{at}": {"f:x": {}} for at in range(60)}}]
    tree["metadata"]["managedFields"] = managed
    return tree


def _agent(number: int) -> dict[str, object]:
    from support.epc_measures import pod_tree

    tree = pod_tree(
        f"agent-{number}", node=f"n{number}", namespace="bastide-system", app="agent", started=1_000_000_000
    )
    del tree["spec"]["containers"][0]["resources"]
    tree["status"]["podIP"] = "127.0.0.1"
    return tree


def _serve(nodes: int, pods: int, with_epc: int, pipe: Connection) -> None:
    """API server and agents; changes pods while it is told to."""
    from support.api_server import api_server
    from support.epc_measures import node_tree
    from support.kube_objects import KubeObjects

    kept = KubeObjects()
    for number in range(nodes):
        labels = {f"example.com/label-{at}": "some-value" for at in range(20)}
        kept.put(f"/api/v1/nodes/n{number}", node_tree(f"n{number}", "256Mi", labels=labels))
        agent = _agent(number)
        kept.put(f"/api/v1/namespaces/bastide-system/pods/{agent['metadata']['name']}", agent)
    paths = []
    for number in range(pods):
        tree = _pod(number, nodes, epc=number < with_epc)
        paths.append(f"/api/v1/namespaces/{tree['metadata']['namespace']}/pods/{tree['metadata']['name']}")
        kept.put(paths[-1], tree)
    kept.events.clear()
    changing = threading.Event()

    def change() -> None:
        number = 0
        while True:
            changing.wait()
            for _ in range(_CHANGES // 10):
                path = paths[number % len(paths)]
                kept.put(path, {**kept.objects[path], "touched": number})
                number += 1
            time.sleep(0.1)

    threading.Thread(target=change, daemon=True).start()
    port: list[int] = []
    begun = threading.Event()
    threading.Thread(target=lambda: asyncio.run(_agents(port, begun)), daemon=True).start()
    begun.wait()
    with api_server(kept) as api:
        pipe.send((api.access.port, port[0]))
        while (told := pipe.recv()) != "end":
            changing.set() if told == "change" else changing.clear()


async def _agents(port: list[int], begun: threading.Event) -> None:
    samples = "".join(
        f'bastide_epc_{name}_bytes{{namespace="team-{at}",pod="p-{at}"}} 1.2582912e+07\n'
        for name in ("requested", "mapped")
        for at in range(20)
    )
    page = f"# TYPE bastide_epc_offered_bytes gauge\n# TYPE bastide_epc_mapped_bytes gauge\n{samples}".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port.append(server.sockets[0].getsockname()[1])
    begun.set()
    await server.serve_forever()


def _resident() -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


async def _cpu_percent() -> float:
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(_SECONDS)
    return 100 * (time.process_time() - cpu) / (time.monotonic() - began)


def _milliseconds(work: object, runs: int = 5) -> float:
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1000 * sorted(times)[runs // 2]


async def _measure(ports: tuple[int, int], pipe: Connection) -> dict[str, float]:
    store._is_address = lambda _address: True  # noqa: SLF001 - the agents of this measurement are on loopback
    options = MetricsOptions(
        pages=("127.0.0.1", 0),
        scaler=("127.0.0.1", 0),
        node_selector="",
        agent_selector=Selector.parse("app=agent"),
        scrape=ScrapeSettings(port=ports[1]),
    )
    before, began, cpu = _resident(), time.monotonic(), time.process_time()
    process = MetricsProcess(ClusterAccess(host="127.0.0.1", port=ports[0]), options, chance=lambda: 0.5)
    task = asyncio.ensure_future(process.run())
    await process.store.listed.wait()
    found = {"list_wall_seconds": time.monotonic() - began, "list_cpu_seconds": time.process_time() - cpu}
    found["asking_agents_cpu_percent"] = await _cpu_percent()
    pipe.send("change")
    found["changes_and_agents_cpu_percent"] = await _cpu_percent()
    pipe.send("quiet")
    found["agents_asked"] = len(process.store.agents)
    found["readings"] = len(process.store.readings)
    found["look_cpu_ms"] = _milliseconds(lambda: process.store.measures(age=0))
    seen = process.store.measures()
    metadata = {"metric": "use", "target": "0.7", "selector": "app=app-1"}
    trigger = Trigger.parse(metadata, namespace="team-1", sees_all=False)
    found["question_cpu_ms"] = _milliseconds(lambda: trigger.value(seen))
    found["resident_mib_before"] = before
    found["resident_mib_after"] = _resident()
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return found


def cluster_metrics(nodes: int = 5000, pods: int = 20_000, with_epc: int = 20_000) -> dict[str, float]:
    """List everything, watch, ask agents."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(nodes, pods, with_epc, theirs), daemon=True)
    server.start()
    try:
        measured = asyncio.run(_measure(ours.recv(), ours))
        return {"nodes": nodes, "pods": pods, "with_epc": with_epc, **measured}
    finally:
        ours.send("end")
        server.join(5)
        server.kill()


if __name__ == "__main__":
    print(json.dumps(cluster_metrics(*map(int, sys.argv[1:])), indent=2))
