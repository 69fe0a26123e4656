import asyncio
import random
import socket
import time

import grpc.aio
import pytest

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide._proto import deviceplugin_v1beta1_pb2_grpc as rpc
from bastide.errors import UnavailableError
from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.devices import DeviceLimits, GrantedMount, GrantedNode, offers
from bastide.node.kubelet.deviceplugin import DevicePlugin, serving
from bastide.node.kubelet.unixsocket import CHANNEL_OPTIONS, socket_address
from bastide.sim.devicemanager import UnexpectedAdmissionError
from bastide.sim.kubelet import ContainerDevices, Kubelet, LabKubelet
from bastide.units import MIB, Bytes
from support.bounded import run_bounded, socket_folder

ENCLAVE, PROVISION, QUOTE = "sgx.intel.com/enclave", "sgx.intel.com/provision", "bastide.dev/quote"
NODE = sgx_inventory(Bytes(64 * MIB))


def _in_lab(test, inventory=NODE):
    """``test(kubelet, hardware)`` on a running node of the lab."""

    async def node():
        hardware = DescribedHardware(inventory)
        async with LabKubelet(hardware, chance=random.Random(1).random) as kubelet:
            await test(kubelet, hardware)

    run_bounded(node)


def test_a_lab_node_is_up_in_half_a_second_with_all_devices():
    async def started():
        began = time.monotonic()
        async with LabKubelet(DescribedHardware(NODE), chance=lambda: 0.5) as kubelet:
            assert time.monotonic() - began < 0.5
            assert kubelet.allocatable() == {ENCLAVE: 110, PROVISION: 110, QUOTE: 110}

    run_bounded(started)


def test_a_pod_gets_device_node_mount_and_environment():
    async def allocated(kubelet, _hardware):
        given = await kubelet.allocate("ns/pod", "main", {ENCLAVE: 1, QUOTE: 1})
        assert given == ContainerDevices(
            ids=((ENCLAVE, ("sgx-enclave-0",)), (QUOTE, ("sgx-quote-0",))),
            devices=(GrantedNode(host_path="/dev/sgx_enclave", container_path="/dev/sgx_enclave", permissions="rw"),),
            mounts=(GrantedMount(host_path="/var/run/aesmd", container_path="/var/run/aesmd", read_only=True),),
            env=(("SGX_AESM_ADDR", "1"),),
        )

    _in_lab(allocated)


def test_provision_device_comes_only_when_asked_for():
    async def allocated(kubelet, _hardware):
        plain = await kubelet.allocate("plain", "main", {ENCLAVE: 2, QUOTE: 1})
        trusted = await kubelet.allocate("trusted", "main", {ENCLAVE: 1, PROVISION: 1})
        assert [node.host_path for node in plain.devices] == ["/dev/sgx_enclave"]
        assert [node.host_path for node in trusted.devices] == ["/dev/sgx_enclave", "/dev/sgx_provision"]

    _in_lab(allocated)


def test_no_device_is_given_twice_even_to_pods_that_come_at_once():
    async def allocated(kubelet, _hardware):
        asked = [kubelet.allocate(f"pod-{number}", "main", {ENCLAVE: 1}) for number in range(110)]
        given = [dict(each.ids)[ENCLAVE][0] for each in await asyncio.gather(*asked)]
        assert len(set(given)) == 110
        with pytest.raises(UnexpectedAdmissionError) as refused:
            await kubelet.allocate("one-too-many", "main", {ENCLAVE: 1})
        assert refused.value.code == "sim.kubelet.devices"
        kubelet.release("pod-7")
        assert dict((await kubelet.allocate("next", "main", {ENCLAVE: 1})).ids)[ENCLAVE] == (given[7],)

    _in_lab(allocated)


def test_a_container_that_restarts_gets_the_same_devices():
    async def allocated(kubelet, hardware):
        first = await kubelet.allocate("pod", "main", {ENCLAVE: 1})
        hardware.describe(WITHOUT_SGX)
        await kubelet.until_allocatable({ENCLAVE: 0})
        assert await kubelet.allocate("pod", "main", {ENCLAVE: 1}) is first

    _in_lab(allocated)


def test_devices_given_stay_given_over_a_kubelet_restart():
    async def restarted(kubelet, _hardware):
        first = await kubelet.allocate("pod", "main", {ENCLAVE: 110})
        await kubelet.restart()
        await kubelet.until_allocatable({ENCLAVE: 110})
        assert await kubelet.allocate("pod", "main", {ENCLAVE: 110}) is first
        with pytest.raises(UnexpectedAdmissionError):
            await kubelet.allocate("other", "main", {ENCLAVE: 1})

    _in_lab(restarted)


def test_a_pod_is_refused_while_the_device_is_lost_and_taken_when_it_is_back():
    async def lost(kubelet, hardware):
        hardware.describe(WITHOUT_SGX)
        await kubelet.until_allocatable({ENCLAVE: 0})
        with pytest.raises(UnexpectedAdmissionError, match="0 healthy and free"):
            await kubelet.allocate("pod", "main", {ENCLAVE: 1})
        hardware.describe(NODE)
        await kubelet.until_allocatable({ENCLAVE: 110})
        assert (await kubelet.allocate("pod", "main", {ENCLAVE: 1})).devices

    _in_lab(lost)


def test_a_node_without_sgx_starts_and_offers_nothing():
    async def started(kubelet, _hardware):
        assert kubelet.capacity() == {}
        with pytest.raises(UnexpectedAdmissionError):
            await kubelet.allocate("pod", "main", {ENCLAVE: 1})

    _in_lab(started, WITHOUT_SGX)


def test_twenty_lab_nodes_run_at_once():
    async def together():
        async def one(number):
            async with LabKubelet(DescribedHardware(NODE), chance=lambda: 0.5) as kubelet:
                return await kubelet.allocate(f"pod-{number}", "main", {ENCLAVE: 1})

        given = await asyncio.gather(*(one(number) for number in range(20)))
        assert all(dict(each.ids)[ENCLAVE] == ("sgx-enclave-0",) for each in given)

    run_bounded(together)


def test_the_folder_of_a_lab_node_is_gone_afterwards(monkeypatch):
    with socket_folder() as folder:
        monkeypatch.setattr("tempfile.tempdir", str(folder))

        async def nothing(_kubelet, _hardware):
            assert len(list(folder.iterdir())) == 1

        _in_lab(nothing)
        assert list(folder.iterdir()) == []


def test_a_lab_node_whose_agent_does_not_come_up_says_so_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr("bastide.sim.kubelet._START_SECONDS", 0.05)
    monkeypatch.setattr("bastide.sim.kubelet._remove_sockets", lambda _folder: None)
    monkeypatch.setattr("bastide.sim.kubelet.VERSION", "v2")

    async def stuck():
        with pytest.raises(UnavailableError) as error:
            async with LabKubelet(DescribedHardware(NODE), chance=lambda: 0.5):
                pass
        assert error.value.code == "sim.kubelet.start"

    run_bounded(stuck)


def _with_kubelet(test):
    """``test(kubelet, registration stub, folder)`` beside a kubelet alone."""

    async def alone():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            address = socket_address(folder / "kubelet.sock")
            async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
                await test(kubelet, rpc.RegistrationStub(channel), folder)
            await kubelet.stop()

    run_bounded(alone)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"version": "v1beta2"}, "v1beta1"),
        ({"version": ""}, "v1beta1"),
        ({"resource_name": "enclave"}, "extended resource"),
        ({"endpoint": "../elsewhere.sock"}, "plugin folder"),
    ],
)
def test_refuses_a_registration_that_it_cannot_take(changed, named):
    async def refused(kubelet, stub, _folder):
        good = {"version": "v1beta1", "endpoint": "p.sock", "resource_name": ENCLAVE}
        with pytest.raises(grpc.aio.AioRpcError, match=named) as error:
            await stub.Register(pb.RegisterRequest(**{**good, **changed}))
        assert error.value.code() is grpc.StatusCode.UNKNOWN
        assert kubelet.capacity() == {}

    _with_kubelet(refused)


def test_a_plugin_that_registers_without_a_socket_offers_nothing():
    async def registered(kubelet, stub, _folder):
        await stub.Register(pb.RegisterRequest(version="v1beta1", endpoint="p.sock", resource_name=ENCLAVE))
        await kubelet.until_allocatable({ENCLAVE: 0})
        assert kubelet.capacity() == {ENCLAVE: 0}

    _with_kubelet(registered)


def test_a_plugin_that_refuses_to_allocate_leaves_its_devices_free():
    async def refused(kubelet, stub, folder):
        plugin = DevicePlugin(offers(NODE, DeviceLimits(enclave=1))[0])
        async with serving(plugin, folder / "p.sock"):
            await stub.Register(pb.RegisterRequest(version="v1beta1", endpoint="p.sock", resource_name=ENCLAVE))
            await kubelet.until_allocatable({ENCLAVE: 1})
            # The hardware goes, and the pod comes before the list says so.
            plugin._offer = offers(WITHOUT_SGX, DeviceLimits(enclave=1))[0]
            with pytest.raises(UnexpectedAdmissionError, match="not there at present") as error:
                await kubelet.allocate("pod", "main", {ENCLAVE: 1})
            assert error.value.code == "sim.kubelet.allocate"
            plugin._offer = offers(NODE, DeviceLimits(enclave=1))[0]
            assert (await kubelet.allocate("other", "main", {ENCLAVE: 1})).devices

    _with_kubelet(refused)


def test_a_pod_that_ends_during_allocation_holds_nothing():
    async def ended(kubelet, stub, folder):
        async with serving(DevicePlugin(offers(NODE, DeviceLimits(enclave=1))[0]), folder / "p.sock"):
            await stub.Register(pb.RegisterRequest(version="v1beta1", endpoint="p.sock", resource_name=ENCLAVE))
            await kubelet.until_allocatable({ENCLAVE: 1})
            allocation = asyncio.create_task(kubelet.allocate("pod", "main", {ENCLAVE: 1}))
            await asyncio.sleep(0)
            kubelet.release("pod")
            with pytest.raises(UnexpectedAdmissionError) as error:
                await allocation
            assert error.value.code == "sim.kubelet.released"
            assert (await kubelet.allocate("other", "main", {ENCLAVE: 1})).devices

    _with_kubelet(ended)


def test_a_kubelet_that_starts_removes_sockets_and_keeps_other_files():
    async def started():
        with socket_folder() as folder:
            (folder / "kubelet_internal_checkpoint").write_text("{}")
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(folder / "former.sock"))
            kubelet = Kubelet(folder)
            await kubelet.start()
            assert {path.name for path in folder.iterdir()} == {"kubelet.sock", "kubelet_internal_checkpoint"}
            await kubelet.stop()

    run_bounded(started)
