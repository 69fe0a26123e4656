import asyncio
import re
import subprocess
import sys
from contextlib import asynccontextmanager

from bastide.kube.client import ApiClient
from bastide.kube.follow import FollowSettings
from bastide.node.build import NodeOptions, NodeService, build_node
from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.keeper import KeeperSettings
from bastide.node.machine.capture import INDEX, build_index
from bastide.node.offenders import TellerSettings
from bastide.sim.kubelet import Kubelet
from bastide.units import MIB, Bytes
from support.api_server import api_server
from support.bounded import eventually, run_bounded, socket_folder
from support.holding import HoldersKubelet, holding_pod, pod_resources
from support.node_api import ENCLAVE, EPC, NodeApi, node
from support.nodes import captured, sgx_node

NODE = sgx_inventory(Bytes(64 * MIB))
QUICK = KeeperSettings(interval=0.02, follow=FollowSettings(first_delay=0.02, longest_delay=0.05))


def _options(folder, **changes):
    given = {"plugin_dir": folder, "listen": ("127.0.0.1", 0), "parked_interval": 0.02, "keeper": QUICK, "root": folder}
    return NodeOptions(**{**given, **changes})


def _running(hardware, client, options):
    return _at_work(NodeService(hardware, client, options, chance=lambda: 0.0))


@asynccontextmanager
async def _at_work(service):
    task = asyncio.create_task(service.run())
    try:
        await eventually(lambda: service.port, "pages")
        yield service
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled(), task


async def _page(service, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


async def _until_ready(service):
    while True:
        if (await _page(service, "/readyz"))[0] == 200:
            return
        await asyncio.sleep(0.02)


def _pod(name, epc):
    return {
        "metadata": {"name": name, "namespace": "team", "uid": f"u-{name}", "resourceVersion": "1"},
        "spec": {"containers": [{"resources": {"limits": {EPC: epc}}}]},
        "status": {"phase": "Running"},
    }


def test_offers_devices_and_epc_exports_metrics_and_becomes_ready():
    ended = _pod("ended", "1Mi")
    ended["status"]["phase"] = "Succeeded"
    api = NodeApi(node(), [_pod("app", "10Mi"), ended])

    async def worked():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            client = ApiClient(served.access, chance=lambda: 0.0)
            async with _running(DescribedHardware(NODE), client, _options(folder, node_name="n")) as service:
                await kubelet.until_allocatable({ENCLAVE: 110})
                await eventually(lambda: api.capacity == str(64 * MIB), "capacity")
                assert (await _page(service, "/readyz"))[0] == 503
                api.change(lambda tree: tree["status"].update(allocatable={EPC: "64Mi", ENCLAVE: "110"}))
                async with asyncio.timeout(5):
                    await _until_ready(service)
                assert await _page(service, "/healthz") == (200, "ok\n")
                _, metrics = await _page(service, "/metrics")
                assert "bastide_epc_offered_bytes 6.7108864e+07" in metrics
                assert 'bastide_epc_requested_bytes{namespace="team",pod="app"} 1.048576e+07' in metrics
                assert "ended" not in metrics
            await kubelet.stop()

    with api_server(api) as served:
        run_bounded(worked)
    assert api.capacity == str(64 * MIB), "nothing is taken back at the end"


def test_metrics_tell_which_pod_was_given_which_devices_while_the_kubelet_tells():
    async def worked():
        with socket_folder() as folder:
            socket = folder / "pod-resources.sock"
            options = _options(folder, pod_resources=socket)
            async with _running(DescribedHardware(NODE), None, options) as service:
                await eventually(lambda: service._parts, "at work")
                assert "bastide_devices_held" not in (await _page(service, "/metrics"))[1]
                kubelet = HoldersKubelet(holding_pod("app", main=[(ENCLAVE, ["e-1", "e-2"])]))
                async with pod_resources(kubelet, socket):
                    held = (
                        f'bastide_devices_held{{container="main",namespace="team",pod="app",resource="{ENCLAVE}"}} 2.0'
                    )
                    assert held in (await _page(service, "/metrics"))[1]

    run_bounded(worked)


UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


def _accounting_node(root):
    """A described node in a folder, whose kernel accounts EPC: 12 MiB to one pod."""
    files = sgx_node()
    files.contents["/sys/fs/cgroup/misc.capacity"] = b"sgx_epc 100663296\n"
    taken = captured(files)
    for path, raw in taken.contents.items():
        if isinstance(raw, bytes):
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / path[1:]).write_bytes(raw)
    (root / INDEX).write_bytes(build_index(taken))
    pod = root / "sys/fs/cgroup/kubepods/burstable" / f"pod{UID}"
    pod.mkdir(parents=True)
    (pod / "misc.current").write_text(f"sgx_epc {12 * MIB}\n")


def test_a_pod_that_holds_more_epc_than_it_asked_for_is_named_in_an_event_and_a_metric(tmp_path):
    pod = _pod("greedy", "10Mi")
    pod["metadata"]["uid"] = UID
    api = NodeApi(node(), [pod, _pod("modest", "10Mi")])
    _accounting_node(tmp_path)

    async def worked():
        with socket_folder() as folder:
            options = _options(folder, node_name="n", root=tmp_path, teller=TellerSettings(interval=0.02))
            async with _at_work(build_node(served.access, options, chance=lambda: 0.0)) as service:
                await eventually(lambda: any(asked.method == "POST" for asked in served.asked), "told")
                _, metrics = await _page(service, "/metrics")
                over = re.findall(r"^bastide_epc_over_request_bytes\{(.*)\} (.*)$", metrics, re.MULTILINE)
                assert [(labels, float(value)) for labels, value in over] == [
                    ('namespace="team",pod="greedy"', 2 * MIB)
                ]

    with api_server(api) as served:
        run_bounded(worked)
        (event,) = [asked for asked in served.asked if asked.method == "POST"]
    assert event.path == "/api/v1/namespaces/team/events"
    assert event.json["involvedObject"]["name"] == "greedy"
    assert event.json["message"] == "holds 12 MiB of EPC, and asked for 10 MiB"


def test_without_an_api_server_devices_alone_are_served():
    async def worked():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            async with _running(DescribedHardware(NODE), None, _options(folder, node_name="n")) as service:
                await kubelet.until_allocatable({ENCLAVE: 110})
                async with asyncio.timeout(5):
                    await _until_ready(service)
                assert "bastide_epc_capacity" not in (await _page(service, "/metrics"))[1]
            await kubelet.stop()

    run_bounded(worked)


def test_a_node_without_sgx_parks_until_a_driver_appears():
    api = NodeApi(node())

    async def parked():
        with socket_folder() as folder:
            hardware = DescribedHardware(WITHOUT_SGX)
            client = ApiClient(served.access, chance=lambda: 0.0)
            async with _running(hardware, client, _options(folder, node_name="n")) as service:
                await asyncio.sleep(0.2)
                assert list(folder.iterdir()) == []
                assert api.patches == []
                status, body = await _page(service, "/readyz")
                assert (status, "parked" in body) == (200, True)
                assert "bastide_epc_offered_bytes 0.0" in (await _page(service, "/metrics"))[1]
                hardware.describe(NODE)
                await eventually(lambda: api.capacity == str(64 * MIB), "at work")

    with api_server(api) as served:
        run_bounded(parked)


def test_a_node_that_lost_its_sgx_is_freed_of_what_would_draw_pods():
    tree = node(**{EPC: "64Mi"})
    tree["metadata"]["labels"]["bastide.dev/sgx-enabled"] = "true"
    api = NodeApi(tree)

    async def parked():
        with socket_folder() as folder:
            client = ApiClient(served.access, chance=lambda: 0.0)
            async with _running(DescribedHardware(WITHOUT_SGX), client, _options(folder, node_name="n")):
                await eventually(lambda: api.capacity is None, "capacity gone")
                await eventually(lambda: "bastide.dev/sgx-enabled" not in api.labels, "label gone")

    with api_server(api) as served:
        run_bounded(parked)


_PARKED = """
import asyncio, sys
from pathlib import Path
from bastide.node.build import NodeOptions, NodeService
from bastide.node.described import WITHOUT_SGX, DescribedHardware

async def parked():
    options = NodeOptions(plugin_dir=Path("/nowhere"), listen=("127.0.0.1", 0), parked_interval=0.01)
    service = NodeService(DescribedHardware(WITHOUT_SGX), None, options, chance=lambda: 0.5)
    task = asyncio.create_task(service.run())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])

asyncio.run(parked())
print(*[name for name in ("grpc", "google", "prometheus_client", "cryptography", "starlette", "sqlite3", "yaml")
        if name in sys.modules])
"""


def test_a_parked_agent_has_loaded_none_of_the_large_libraries():
    ran = subprocess.run([sys.executable, "-c", _PARKED], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.split() == []
