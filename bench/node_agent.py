"""The node agent as the real command: memory, idle CPU, Allocate, registration; beside a bare grpc.aio server.

python -m bench.node_agent [SECONDS]        default 60 seconds of idleness

The agent has what it has on a node: a kubelet (the lab's, on real sockets), an API server behind TLS with its Node
object and pods (make-believe, in this process), and a tree with device nodes, a socket of AESM and 1 TiB of EPC. The
peer is one grpc.aio server with the same messages and one open list. A third process is an agent on a node without SGX.
"""

import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

_ALLOCATES = 10_000
_BLOCK = 500
_RESTARTS = 20
_SETTLE_SECONDS = 5.0
_NUMA_NODES = 8
_EPC_BY_NODE = (1 << 40) // _NUMA_NODES
_ENCLAVE = "sgx.intel.com/enclave"
_SOCKET = "bastide-sgx.intel.com-enclave.sock"
_ALL = {_ENCLAVE: 110, "sgx.intel.com/provision": 110, "bastide.dev/quote": 110}

_AGENT = """
import sys
from functools import partial
from pathlib import Path
from bastide.cli import main, node
node.in_cluster = partial(node.in_cluster, account=Path(sys.argv.pop(1)))
main()
"""
"""The command, with the service account's folder where this process can make one."""

_BARE = """
import asyncio, sys
import grpc.aio
from bastide._proto import deviceplugin_v1beta1_pb2 as pb, deviceplugin_v1beta1_pb2_grpc as rpc

class Bare(rpc.DevicePluginServicer):
    async def ListAndWatch(self, request, context):
        yield pb.ListAndWatchResponse(devices=[pb.Device(ID=f"d-{n}", health="Healthy") for n in range(110)])
        await asyncio.Event().wait()

    async def Allocate(self, request, context):
        node = pb.DeviceSpec(container_path="/dev/sgx_enclave", host_path="/dev/sgx_enclave", permissions="rw")
        return pb.AllocateResponse(
            container_responses=[pb.ContainerAllocateResponse(devices=[node]) for _ in request.container_requests]
        )

async def main():
    server = grpc.aio.server()
    rpc.add_DevicePluginServicer_to_server(Bare(), server)
    server.add_insecure_port("unix:" + sys.argv[1])
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads, ended ones too (Linux: clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int) -> dict[str, float]:
    """MiB: resident; private (in no other process at this moment); of no file or written to (nobody else's ever)."""
    fields = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    size = {words[0]: int(words[1]) / 1024 for words in fields}
    return {
        "rss_mib": round(size["Rss:"], 1),
        "private_mib": round(size["Private_Clean:"] + size["Private_Dirty:"], 1),
        "private_dirty_mib": round(size["Private_Dirty:"], 1),
    }


@contextmanager
def _process(*arguments: str, **environment: str) -> Iterator[int]:
    command = [sys.executable, "-c", *arguments]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _agent(folder: Path, root: Path, port: int) -> Iterator[int]:
    (folder / "plugins").mkdir()
    options = ("--node-name", "n", "--root", str(root), "--plugin-dir", str(folder / "plugins"))
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
    account = str(folder.parent / "account")
    with _process(_AGENT, account, "node", "agent", *options, "--listen", "127.0.0.1:0", **environment) as pid:
        yield pid


def _sgx_tree(root: Path) -> None:
    from support.nodes import make_tree, sgx_node

    files = sgx_node()
    folder = "/sys/devices/system/node"
    for number in range(_NUMA_NODES):
        files.contents[f"{folder}/node{number}/x86/sgx_total_bytes"] = b"%d\n" % _EPC_BY_NODE
    try:
        make_tree(root, files)
    except PermissionError:
        raise SystemExit("node_agent: making device nodes takes root") from None


def _tls(account: Path) -> ssl.SSLContext:
    from bastide.web.tls import self_made

    certificate, key = self_made(account, ("localhost", "127.0.0.1"), datetime.now(UTC))
    (account / "ca.crt").write_bytes(Path(certificate).read_bytes())
    (account / "token").write_text("token")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


async def _seconds(work: Awaitable[object]) -> float:
    begun = time.perf_counter()
    async with asyncio.timeout(60):
        await work
    return time.perf_counter() - begun


async def _allocates(sockets: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Latency of each call, all servers by turns in blocks."""
    from bastide._proto import deviceplugin_v1beta1_pb2 as pb
    from support.kubelets import plugin_stub

    request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=["sgx-enclave-7"])])
    taken: dict[str, list[float]] = {name: [] for name in sockets}
    for _ in range(_ALLOCATES // _BLOCK):
        for name, socket in sockets.items():
            async with plugin_stub(socket) as stub:
                await stub.Allocate(request)
                taken[name] += [await _seconds(stub.Allocate(request)) for _ in range(_BLOCK)]
    return {
        name: {
            "allocate_p50_ms": round(1000 * statistics.median(times), 3),
            "allocate_p99_ms": round(1000 * statistics.quantiles(times, n=100)[98], 3),
        }
        for name, times in taken.items()
    }


async def _list_bytes(socket: Path) -> int:
    from bastide._proto import deviceplugin_v1beta1_pb2 as pb
    from support.kubelets import plugin_stub

    async with plugin_stub(socket) as stub:
        stream = stub.ListAndWatch(pb.Empty())
        size = (await anext(aiter(stream))).ByteSize()
        stream.cancel()
    return size


async def _measure(folder: Path, idle_seconds: float) -> dict[str, object]:
    from bastide._proto import deviceplugin_v1beta1_pb2 as pb
    from bastide.sim.kubelet import Kubelet
    from support.api_server import api_server
    from support.kubelets import plugin_stub
    from support.node_api import EPC, NodeApi, node

    roots = {name: folder / f"{name}-root" for name in ("agent", "parked")}
    for name in ("account", *roots, *(f"{name}-root" for name in roots)):
        (folder / name).mkdir()
    (roots["parked"] / "dev").mkdir()
    _sgx_tree(roots["agent"])
    tls = _tls(folder / "account")
    sockets = {"agent": folder / "agent/plugins" / _SOCKET, "bare": folder / "bare.sock"}
    answerers = {name: NodeApi(node()) for name in roots}
    with ExitStack() as stack:
        apis = {name: stack.enter_context(api_server(answerer, tls=tls)) for name, answerer in answerers.items()}
        pids = {name: stack.enter_context(_agent(folder / name, roots[name], apis[name].access.port)) for name in roots}
        pids["bare"] = stack.enter_context(_process(_BARE, str(sockets["bare"])))
        await asyncio.sleep(_SETTLE_SECONDS)
        kubelets = {name: Kubelet(folder / name / "plugins") for name in roots}
        started = []
        for _ in range(_RESTARTS):
            await kubelets["agent"].stop()
            started.append(await _seconds(_started(kubelets["agent"])))
            await asyncio.sleep(0.3)
        await kubelets["parked"].start()
        await _until(sockets["bare"].exists)
        figures = await _allocates(sockets)
        async with plugin_stub(sockets["bare"]) as stub:
            stream = stub.ListAndWatch(pb.Empty())
            await anext(aiter(stream))
            await asyncio.sleep(_SETTLE_SECONDS)
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            begun = time.monotonic()
            await asyncio.sleep(idle_seconds)
            for name, pid in pids.items():
                spent = (cpu_seconds(pid) - before[name]) / (time.monotonic() - begun)
                figures.setdefault(name, {}).update(memory(pid), idle_cpu_percent=round(100 * spent, 4))
            stream.cancel()
        figures["agent"]["kubelet_to_allocatable_median_seconds"] = round(statistics.median(started), 3)
        figures["agent"]["kubelet_to_allocatable_worst_seconds"] = round(max(started), 3)
        figures["agent"]["list_bytes"] = await _list_bytes(sockets["agent"])
        figures["agent"]["epc_advertised"] = int(answerers["agent"].capacity or 0)
        answerers["agent"].change(lambda tree: tree["status"]["capacity"].update({EPC: "0"}))
        back = _until(lambda: answerers["agent"].capacity not in (None, "0"))
        figures["agent"]["epc_back_seconds"] = round(await _seconds(back), 3)
        (roots["agent"] / "dev/sgx_enclave").unlink()
        figures["agent"]["unhealthy_seconds"] = round(
            await _seconds(kubelets["agent"].until_allocatable({_ENCLAVE: 0})), 3
        )
        figures["parked"]["registered"] = len(kubelets["parked"].capacity())
        figures["parked"]["patches"] = len(answerers["parked"].patches)
        _sgx_tree(roots["parked"])
        figures["parked"]["driver_to_allocatable_seconds"] = round(
            await _seconds(kubelets["parked"].until_allocatable({_ENCLAVE: 110})), 3
        )
        for kubelet in kubelets.values():
            await kubelet.stop()
    rss = figures["agent"]["rss_mib"] / figures["bare"]["rss_mib"]
    p50 = figures["agent"]["allocate_p50_ms"] / figures["bare"]["allocate_p50_ms"]
    return {"allocates": _ALLOCATES, **figures, "rss_ratio": round(rss, 2), "allocate_p50_ratio": round(p50, 2)}


async def _started(kubelet: object) -> None:
    await kubelet.start()
    await kubelet.until_allocatable(_ALL)


def node_agent(idle_seconds: float = 60.0) -> dict[str, object]:
    """All figures; goals are in bench/README.md."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    with tempfile.TemporaryDirectory(prefix="bn-") as folder:
        return asyncio.run(_measure(Path(folder), idle_seconds))


if __name__ == "__main__":
    print(json.dumps(node_agent(*map(float, sys.argv[1:])), indent=2))
