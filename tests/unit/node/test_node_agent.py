import asyncio
import dataclasses
import os
import sys
from pathlib import Path

import grpc.aio
import pytest

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide.errors import ConfigError, UnavailableError
from bastide.node.agent import AgentSettings, NodeAgent, endpoint_of
from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.inventory import DeviceRole
from bastide.sim.kubelet import Kubelet
from bastide.units import MIB, Bytes
from support.bounded import eventually, run_bounded, socket_folder
from support.kubelets import DeafKubelet, plugin_stub, quick, registration, running_agent

ENCLAVE, PROVISION, QUOTE = "sgx.intel.com/enclave", "sgx.intel.com/provision", "bastide.dev/quote"
ALL = {ENCLAVE: 110, PROVISION: 110, QUOTE: 110}
NODE = sgx_inventory(Bytes(64 * MIB))
_LONG = {"hardware_interval": 60.0, "socket_interval": 60.0}


def _with_kubelet(test, inventory=NODE, **changes):
    """``test(kubelet, hardware, folder)`` beside a running agent and the lab's kubelet."""

    async def both():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            hardware = DescribedHardware(inventory)
            try:
                async with running_agent(hardware, quick(folder, **changes)):
                    await test(kubelet, hardware, folder)
            finally:
                await kubelet.stop()

    run_bounded(both)


def test_registers_every_resource_of_the_node():
    async def registered(kubelet, _hardware, _folder):
        await kubelet.until_allocatable(ALL)
        assert kubelet.capacity() == ALL

    _with_kubelet(registered)


def test_registers_again_after_every_kubelet_restart():
    async def restarted(kubelet, _hardware, _folder):
        for _ in range(3):
            await kubelet.until_allocatable(ALL)
            await kubelet.restart()
            assert kubelet.allocatable() == dict.fromkeys(ALL, 0)
        await kubelet.until_allocatable(ALL)

    _with_kubelet(restarted)


def test_registers_with_a_new_kubelet_that_left_its_sockets_alone():
    async def replaced():
        with socket_folder() as folder:
            first, second = DeafKubelet(), DeafKubelet()
            async with running_agent(DescribedHardware(NODE), quick(folder)):
                async with registration(first, folder):
                    await eventually(lambda: set(first.registered) == set(ALL), "registered with the first")
                async with registration(second, folder):
                    await eventually(lambda: set(second.registered) == set(ALL), "registered with the second")

    run_bounded(replaced)


def test_waits_for_a_kubelet_that_starts_after_it():
    async def late():
        with socket_folder() as folder:
            async with running_agent(DescribedHardware(NODE), quick(folder, **_LONG)):
                await asyncio.sleep(0.1)
                assert list(folder.iterdir()) == []
                kubelet = Kubelet(folder)
                await kubelet.start()
                await kubelet.until_allocatable(ALL)
                await kubelet.stop()

    run_bounded(late)


def test_registers_again_when_its_own_socket_is_deleted():
    async def deleted(kubelet, _hardware, folder):
        await kubelet.until_allocatable(ALL)
        (folder / endpoint_of(ENCLAVE)).unlink()
        await kubelet.until_allocatable({ENCLAVE: 0})
        await kubelet.until_allocatable(ALL)
        assert (folder / endpoint_of(ENCLAVE)).is_socket()

    _with_kubelet(deleted)


def test_health_follows_the_hardware_down_and_up_without_a_new_registration():
    async def followed(kubelet, hardware, folder):
        await kubelet.until_allocatable(ALL)
        before = (folder / endpoint_of(ENCLAVE)).stat().st_ino
        hardware.describe(WITHOUT_SGX)
        await kubelet.until_allocatable(dict.fromkeys(ALL, 0))
        assert kubelet.capacity() == ALL
        hardware.describe(NODE)
        await kubelet.until_allocatable(ALL)
        assert (folder / endpoint_of(ENCLAVE)).stat().st_ino == before

    _with_kubelet(followed)


def test_what_changes_is_known_at_once_however_rarely_it_looks():
    async def changed(kubelet, hardware, folder):
        await kubelet.until_allocatable(ALL)
        for inventory, count in ((WITHOUT_SGX, 0), (NODE, 110)):
            hardware.describe(inventory)
            await kubelet.until_allocatable(dict.fromkeys(ALL, count))
        for _ in range(3):
            await kubelet.restart()
            await kubelet.until_allocatable(ALL)
            (folder / endpoint_of(ENCLAVE)).unlink()
            await kubelet.until_allocatable({ENCLAVE: 0})
            await kubelet.until_allocatable(ALL)

    _with_kubelet(changed, **_LONG)


def test_a_kubelet_that_listened_between_two_looks_has_listened():
    async def listened():
        with socket_folder() as folder:
            kubelet, socket = DeafKubelet(), folder / endpoint_of(ENCLAVE)
            settings = quick(folder, socket_interval=60, first_delay=0.05, longest_delay=60)
            async with registration(kubelet, folder), running_agent(DescribedHardware(NODE), settings) as agent:
                async with asyncio.timeout(3):  # delays that double would add up to 5 s
                    for number in range(1, 8):
                        await eventually(lambda: kubelet.registered.count(ENCLAVE) >= number, "registered")  # noqa: B023
                        async with plugin_stub(socket) as stub:
                            await anext(aiter(stub.ListAndWatch(pb.Empty())))
                        await eventually(lambda: not agent.watched()[ENCLAVE], "nobody listens any more")
                        socket.unlink()

    run_bounded(listened)


def test_one_device_lost_leaves_the_other_resources_healthy():
    async def lost(kubelet, hardware, _folder):
        await kubelet.until_allocatable(ALL)
        left = tuple(node for node in NODE.device_nodes if node.role is not DeviceRole.PROVISION)
        hardware.describe(dataclasses.replace(NODE, device_nodes=left))
        await kubelet.until_allocatable({PROVISION: 0})
        assert kubelet.allocatable() == ALL | {PROVISION: 0}

    _with_kubelet(lost)


def test_a_node_without_sgx_registers_nothing_until_a_driver_appears():
    async def parked(kubelet, hardware, folder):
        await asyncio.sleep(0.1)
        assert kubelet.capacity() == {}
        assert [path.name for path in folder.iterdir()] == ["kubelet.sock"]
        hardware.describe(sgx_inventory(Bytes(MIB), aesm=False))
        await kubelet.until_allocatable({ENCLAVE: 110, PROVISION: 110})
        assert QUOTE not in kubelet.capacity()

    _with_kubelet(parked, WITHOUT_SGX)


def test_tries_again_after_refusals_until_the_kubelet_takes_it():
    async def refused():
        with socket_folder() as folder:
            kubelet = DeafKubelet(refusals=7)
            async with registration(kubelet, folder), running_agent(DescribedHardware(NODE), quick(folder)):
                await eventually(lambda: set(kubelet.registered) == set(ALL), "all registered")

    run_bounded(refused)


def test_waits_longer_after_each_refusal():
    async def refused():
        with socket_folder() as folder:
            kubelet = DeafKubelet(refusals=1000)
            settings = quick(folder, first_delay=0.2, longest_delay=60)
            async with registration(kubelet, folder), running_agent(DescribedHardware(NODE), settings):
                await asyncio.sleep(1)
                assert kubelet.asked <= 3 * 4
                await eventually(lambda: kubelet.asked >= 3 * 3, "still trying")

    run_bounded(refused)


def test_old_failures_are_forgotten_once_a_kubelet_has_listened():
    class Reluctant(Kubelet):
        refusals = 5

        async def Register(self, request, context):
            if request.resource_name == ENCLAVE and self.refusals > 0:
                self.refusals -= 1
                await context.abort(grpc.StatusCode.UNKNOWN, "not now")
            return await super().Register(request, context)

    async def forgotten():
        with socket_folder() as folder:
            kubelet = Reluctant(folder)
            await kubelet.start()
            async with running_agent(DescribedHardware(NODE), quick(folder, longest_delay=60)):
                await kubelet.until_allocatable(ALL)
                async with asyncio.timeout(2):
                    for _ in range(3):
                        (folder / endpoint_of(ENCLAVE)).unlink()
                        await kubelet.until_allocatable({ENCLAVE: 0})
                        await kubelet.until_allocatable(ALL)
            await kubelet.stop()

    run_bounded(forgotten)


def test_a_new_kubelet_is_not_kept_waiting_for_the_failures_of_the_old_one():
    async def replaced():
        with socket_folder() as folder:
            settings = quick(folder, first_delay=60, longest_delay=60)
            async with running_agent(DescribedHardware(NODE), settings):
                async with registration(DeafKubelet(refusals=1000), folder):
                    await asyncio.sleep(0.1)
                kubelet = Kubelet(folder)
                await kubelet.start()
                await kubelet.until_allocatable(ALL)
                await kubelet.stop()

    run_bounded(replaced, seconds=5)


def test_registers_again_with_a_kubelet_that_took_it_and_never_listens():
    async def deaf():
        with socket_folder() as folder:
            kubelet = DeafKubelet()
            settings = quick(folder, watch_within=0.1)
            async with registration(kubelet, folder), running_agent(DescribedHardware(NODE), settings):
                await eventually(lambda: kubelet.registered.count(ENCLAVE) >= 3, "registered anew")

    run_bounded(deaf)


def test_does_not_register_again_while_a_kubelet_listens():
    async def calm(kubelet, _hardware, folder):
        await kubelet.until_allocatable(ALL)
        before = {path.name: path.stat().st_ino for path in folder.iterdir()}
        await asyncio.sleep(0.4)
        assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before
        assert kubelet.allocatable() == ALL

    _with_kubelet(calm, watch_within=0.1)


def test_survives_a_plugin_folder_that_is_removed_and_made_again():
    async def removed(kubelet, _hardware, folder):
        await kubelet.until_allocatable(ALL)
        await kubelet.stop()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        await asyncio.sleep(0.1)
        folder.mkdir()
        await kubelet.start()
        await kubelet.until_allocatable(ALL)

    _with_kubelet(removed)


def test_cancelling_ends_it_even_where_a_failing_call_swallows_the_request(monkeypatch):
    async def fails_when_cancelled(_socket, **_registration):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise UnavailableError("node.kubelet.register", "failed in the same moment") from None

    monkeypatch.setattr("bastide.node.agent.register", fails_when_cancelled)

    async def cancelled():
        with socket_folder() as folder:
            async with (
                registration(DeafKubelet(), folder),
                running_agent(DescribedHardware(NODE), quick(folder, first_delay=60)),
            ):
                await eventually((folder / endpoint_of(ENCLAVE)).exists, "serving")
                await asyncio.sleep(0.05)

    run_bounded(cancelled)


def test_stopping_the_agent_removes_its_sockets_and_leaves_the_kubelets():
    async def stopped():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            async with running_agent(DescribedHardware(NODE), quick(folder)):
                await kubelet.until_allocatable(ALL)
            assert [path.name for path in folder.iterdir()] == ["kubelet.sock"]
            await kubelet.until_allocatable(dict.fromkeys(ALL, 0))
            await kubelet.stop()

    run_bounded(stopped)


_AGENT_ALONE = """
import asyncio, sys
from pathlib import Path
from bastide.node.agent import NodeAgent
from bastide.node.described import DescribedHardware, sgx_inventory
from support.kubelets import quick
asyncio.run(NodeAgent(DescribedHardware(sgx_inventory(1 << 20)), quick(Path(sys.argv[1])), chance=lambda: 0.5).run())
"""


def test_a_killed_agent_leaves_sockets_that_the_next_one_replaces():
    async def killed(kubelet, folder):
        command = [sys.executable, "-c", _AGENT_ALONE, str(folder)]
        support = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
        agent = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": support})
        try:
            await kubelet.until_allocatable(ALL)
        finally:
            agent.kill()
            await agent.wait()
        await kubelet.until_allocatable(dict.fromkeys(ALL, 0))
        assert (folder / endpoint_of(ENCLAVE)).is_socket()
        async with running_agent(DescribedHardware(NODE), quick(folder)):
            await kubelet.until_allocatable(ALL)

    async def alone():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            await killed(kubelet, folder)
            await kubelet.stop()

    run_bounded(alone)


def test_serves_before_it_registers():
    served = []

    class Dialler(DeafKubelet):
        async def Register(self, request, context):
            async with plugin_stub(self.folder / request.endpoint) as stub:
                served.append(await stub.GetDevicePluginOptions(pb.Empty(), timeout=5))
            return await super().Register(request, context)

    async def dialled():
        with socket_folder() as folder:
            kubelet = Dialler()
            kubelet.folder = folder
            async with registration(kubelet, folder), running_agent(DescribedHardware(NODE), quick(folder)):
                await eventually(lambda: len(kubelet.registered) == 3, "all registered")

    run_bounded(dialled)
    assert len(served) == 3


def test_epc_capacity_follows_the_hardware_less_the_reserve():
    hardware = DescribedHardware(NODE)
    settings = AgentSettings(epc_reserve=Bytes(4 * MIB))
    agent = NodeAgent(hardware, settings, chance=lambda: 0.5)
    assert agent.epc_capacity() == 60 * MIB
    hardware.describe(WITHOUT_SGX)
    assert agent.epc_capacity() == 0


def test_epc_that_no_driver_can_use_is_not_offered():
    hardware = DescribedHardware(dataclasses.replace(NODE, device_nodes=()))
    assert NodeAgent(hardware, AgentSettings(), chance=lambda: 0.5).epc_capacity() == 0


def test_refuses_plugin_folder_whose_path_leaves_no_room_for_sockets():
    settings = AgentSettings(plugin_dir=Path("/" + "d" * 80))
    with pytest.raises(ConfigError) as refused:
        NodeAgent(DescribedHardware(NODE), settings, chance=lambda: 0.5)
    assert refused.value.code == "node.socket.path_length"


def test_sockets_fit_into_the_kubelets_own_folder():
    NodeAgent(DescribedHardware(NODE), AgentSettings(), chance=lambda: 0.5)
