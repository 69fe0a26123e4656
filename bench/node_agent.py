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
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bastide.sim.kubelet import Kubelet
    from support.node_api import NodeApi

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
    """MiB resident, and of them private: written by this process, so that no other can share them (Private_Dirty)."""
    fields = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    size = {words[0]: int(words[1]) / 1024 for words in fields}
    return {"rss_mib": round(size["Rss:"], 1), "private_mib": round(size["Private_Dirty:"], 1)}


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
def _agent(folder: Path, port: int) -> Iterator[int]:
    options = ("--node-name", "n", "--root", str(folder / "root"), "--plugin-dir", str(folder / "plugins"))
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
    make_tree(root, files)


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
        while not holds():  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.005)


async def _seconds(work: Awaitable[object]) -> float:
    begun = time.perf_counter()
    async with asyncio.timeout(60):
        await work
    return round(time.perf_counter() - begun, 6)


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


@dataclass
class _Node:
    """One node: its folders, API server, kubelet and agent."""

    root: Path
    api: "NodeApi"
    kubelet: "Kubelet"
    pid: int

    async def kubelet_comes(self) -> float:
        """Seconds from a kubelet's start, its socket, to all devices allocatable."""
        await self.kubelet.stop()
        return await _seconds(self._all_allocatable())

    async def _all_allocatable(self) -> None:
        await self.kubelet.start()
        await self.kubelet.until_allocatable(_ALL)

    async def devices_are(self, count: int) -> float:
        """Seconds until the kubelet has so many healthy enclave devices."""
        return await _seconds(self.kubelet.until_allocatable({_ENCLAVE: count}))

    async def capacity_comes_back(self) -> float:
        """Seconds from EPC zeroed by hand to EPC as it was."""
        from support.node_api import EPC

        self.api.change(lambda tree: tree["status"]["capacity"].update({EPC: "0"}))
        return await _seconds(_until(lambda: self.api.capacity != "0"))


@contextmanager
def _node(folder: Path, tls: ssl.SSLContext) -> Iterator[_Node]:
    from bastide.sim.kubelet import Kubelet
    from support.api_server import api_server
    from support.node_api import NodeApi, node

    for each in (folder / "root/dev", folder / "plugins"):
        each.mkdir(parents=True)
    if folder.name == "agent":
        _sgx_tree(folder / "root")
    api = NodeApi(node())
    with api_server(api, tls=tls) as served, _agent(folder, served.access.port) as pid:
        yield _Node(folder / "root", api, Kubelet(folder / "plugins"), pid)


async def _idle(pids: dict[str, int], seconds: float) -> dict[str, dict[str, float]]:
    """What all processes use in the same time, and the memory that they have at its end."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - begun
    return {
        name: {**memory(pid), "idle_cpu_percent": round(100 * (cpu_seconds(pid) - before[name]) / took, 4)}
        for name, pid in pids.items()
    }


async def _measure(folder: Path, idle_seconds: float) -> dict[str, object]:
    from bastide._proto import deviceplugin_v1beta1_pb2 as pb
    from support.kubelets import plugin_stub

    (folder / "account").mkdir()
    tls = _tls(folder / "account")
    bare_socket, socket = folder / "bare.sock", folder / "agent/plugins" / _SOCKET
    with (
        _process(_BARE, str(bare_socket)) as bare,
        _node(folder / "agent", tls) as agent,
        _node(folder / "parked", tls) as parked,
    ):
        await asyncio.sleep(_SETTLE_SECONDS)
        await parked.kubelet.start()
        comes = [await agent.kubelet_comes() for _ in range(_RESTARTS)]
        before = memory(agent.pid)["rss_mib"]
        latency = await _allocates({"agent": socket, "bare": bare_socket})
        async with plugin_stub(bare_socket) as stub:
            stream = stub.ListAndWatch(pb.Empty())
            await anext(aiter(stream))
            await asyncio.sleep(_SETTLE_SECONDS)
            idle = await _idle({"agent": agent.pid, "bare": bare, "parked": parked.pid}, idle_seconds)
            stream.cancel()
        (figures, peer), asleep = ({**latency[name], **idle[name]} for name in latency), idle["parked"]
        ratios = {f"{name}_ratio": round(figures[name] / peer[name], 2) for name in ("rss_mib", "allocate_p50_ms")}
        figures |= {
            **ratios,
            "rss_mib_before_allocates": before,
            "kubelet_to_allocatable_seconds": [round(statistics.median(comes), 3), round(max(comes), 3)],
            "epc_bytes": int(agent.api.capacity or 0),
            "list_bytes": await _list_bytes(socket),
            "epc_back_seconds": await agent.capacity_comes_back(),
        }
        (agent.root / "dev/sgx_enclave").unlink()
        figures["unhealthy_seconds"] = await agent.devices_are(0)
        asleep |= {"registered": len(parked.kubelet.capacity()), "patches": len(parked.api.patches)}
        _sgx_tree(parked.root)
        asleep["driver_to_allocatable_seconds"] = await parked.devices_are(_ALL[_ENCLAVE])
        for each in (agent, parked):
            await each.kubelet.stop()
    return {"allocates": _ALLOCATES, "agent": figures, "peer": "a bare grpc.aio server", "bare": peer, "parked": asleep}


def node_agent(idle_seconds: float = 60.0) -> dict[str, object]:
    """All figures; goals are in bench/README.md."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    with tempfile.TemporaryDirectory(prefix="bn-") as folder:
        try:
            return asyncio.run(_measure(Path(folder), idle_seconds))
        except PermissionError as error:
            return {"skipped": f"making device nodes takes root: {error}"}


if __name__ == "__main__":
    print(json.dumps(node_agent(*map(float, sys.argv[1:])), indent=2))
