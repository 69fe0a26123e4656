import asyncio
import socket

import grpc.aio
import pytest

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide.errors import UnavailableError
from bastide.node.cdi import by_cdi
from bastide.node.described import WITHOUT_SGX, sgx_inventory
from bastide.node.devices import MOST_DEVICES, DeviceLimits, offers
from bastide.node.kubelet.deviceplugin import DevicePlugin, register, serving
from bastide.units import MIB, Bytes
from support.bounded import eventually, run_bounded, socket_folder
from support.kubelets import DeafKubelet, plugin_stub, registration


def _offer(inventory=None, **limits):
    return offers(inventory or sgx_inventory(Bytes(MIB), Bytes(MIB)), DeviceLimits(**limits))[0]


def _with_plugin(test, plugin_offer=None):
    async def served():
        with socket_folder() as folder:
            plugin = DevicePlugin(plugin_offer or _offer(enclave=3))
            async with serving(plugin, folder / "p.sock"), plugin_stub(folder / "p.sock") as stub:
                await test(plugin, stub)
            assert list(folder.iterdir()) == []

    run_bounded(served)


def test_options_ask_for_no_further_calls():
    async def asked(_plugin, stub):
        assert await stub.GetDevicePluginOptions(pb.Empty()) == pb.DevicePluginOptions()

    _with_plugin(asked)


def test_list_is_complete_at_first_and_after_each_change():
    async def followed(plugin, stub):
        stream = stub.ListAndWatch(pb.Empty())
        lists = aiter(stream)
        first = (await anext(lists)).devices
        assert [device.ID for device in first] == ["sgx-enclave-0", "sgx-enclave-1", "sgx-enclave-2"]
        assert {device.health for device in first} == {"Healthy"}
        assert [node.ID for node in first[0].topology.nodes] == [0, 1]
        assert plugin.watched
        for inventory, health in ((WITHOUT_SGX, "Unhealthy"), (sgx_inventory(Bytes(MIB)), "Healthy")):
            plugin.publish(_offer(inventory, enclave=3))
            assert [device.health for device in (await anext(lists)).devices] == [health] * 3
        stream.cancel()
        await eventually(lambda: not plugin.watched, "plugin sees that nobody listens")

    _with_plugin(followed)


def test_an_offer_that_is_the_same_is_not_sent_again():
    async def followed(plugin, stub):
        stream = stub.ListAndWatch(pb.Empty())
        lists = aiter(stream)
        await anext(lists)
        plugin.publish(_offer(enclave=3))
        await asyncio.sleep(0.05)
        plugin.publish(_offer(WITHOUT_SGX, enclave=3))
        assert (await anext(lists)).devices[0].health == "Unhealthy"
        stream.cancel()

    _with_plugin(followed)


def test_lists_end_in_good_order_when_serving_ends():
    async def ended():
        with socket_folder() as folder:
            plugin = DevicePlugin(_offer())
            async with plugin_stub(folder / "p.sock") as stub:
                async with serving(plugin, folder / "p.sock"):
                    lists = aiter(stub.ListAndWatch(pb.Empty()))
                    await anext(lists)
                with pytest.raises(StopAsyncIteration):
                    await anext(lists)
            assert not plugin.watched

    run_bounded(ended, seconds=5)


def test_allocates_for_every_container_of_a_request():
    async def allocated(_plugin, stub):
        asked = [pb.ContainerAllocateRequest(devices_ids=[f"sgx-enclave-{n}"]) for n in range(2)]
        answer = await stub.Allocate(pb.AllocateRequest(container_requests=asked))
        spec = pb.DeviceSpec(container_path="/dev/sgx_enclave", host_path="/dev/sgx_enclave", permissions="rw")
        assert list(answer.container_responses) == [pb.ContainerAllocateResponse(devices=[spec])] * 2

    _with_plugin(allocated)


def test_allocates_by_cdi_name_alone_where_that_is_wanted():
    async def allocated(_plugin, stub):
        asked = [pb.ContainerAllocateRequest(devices_ids=["sgx-enclave-0"])]
        answer = await stub.Allocate(pb.AllocateRequest(container_requests=asked))
        named = pb.ContainerAllocateResponse(cdi_devices=[pb.CDIDevice(name="bastide.dev/sgx=enclave")])
        assert list(answer.container_responses) == [named]

    _with_plugin(allocated, by_cdi(_offer()))


@pytest.mark.parametrize("ids", [["no-such-device"], []])
def test_refuses_to_allocate_what_it_does_not_have(ids):
    async def refused(_plugin, stub):
        asked = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Allocate(asked)
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "node.device." in error.value.details()

    _with_plugin(refused)


def test_preferred_allocation_includes_what_it_must():
    async def preferred(_plugin, stub):
        asked = pb.ContainerPreferredAllocationRequest(
            available_deviceIDs=["a", "b", "c"], must_include_deviceIDs=["c"], allocation_size=2
        )
        answer = await stub.GetPreferredAllocation(pb.PreferredAllocationRequest(container_requests=[asked]))
        assert list(answer.container_responses[0].deviceIDs) == ["c", "a"]

    _with_plugin(preferred)


def test_pre_start_container_has_nothing_to_do():
    async def started(_plugin, stub):
        await stub.PreStartContainer(pb.PreStartContainerRequest(devices_ids=["sgx-enclave-0"]))

    _with_plugin(started)


def test_the_longest_list_stays_far_below_the_kubelets_message_limit():
    async def listed(_plugin, stub):
        stream = stub.ListAndWatch(pb.Empty())
        response = await anext(aiter(stream))
        assert len(response.devices) == MOST_DEVICES
        assert response.ByteSize() < 1 << 20
        stream.cancel()

    _with_plugin(listed, _offer(enclave=MOST_DEVICES))


def test_a_socket_left_by_a_former_run_is_replaced():
    async def served():
        with socket_folder() as folder:
            path = folder / "p.sock"
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
            async with serving(DevicePlugin(_offer()), path), plugin_stub(path) as stub:
                await stub.GetDevicePluginOptions(pb.Empty(), timeout=5)

    run_bounded(served)


def test_a_folder_that_is_gone_is_an_error_of_ours():
    async def refused():
        with socket_folder() as folder:
            missing = folder / "gone" / "p.sock"
            with pytest.raises(UnavailableError) as error:
                async with serving(DevicePlugin(_offer()), missing):
                    pass
            assert error.value.code == "node.socket.bind"

    run_bounded(refused)


def test_registering_with_a_kubelet_that_refuses_or_is_not_there_is_an_error_of_ours():
    async def refused():
        with socket_folder() as folder:
            kubelet = folder / "kubelet.sock"
            async with registration(DeafKubelet(refusals=1), folder):
                with pytest.raises(UnavailableError, match="not now"):
                    await register(kubelet, endpoint="p.sock", resource="a/b")
            with pytest.raises(UnavailableError) as error:
                await register(kubelet, endpoint="p.sock", resource="a/b")
            assert error.value.code == "node.kubelet.register"

    run_bounded(refused)


def test_waits_longer_for_an_answer_than_the_kubelet_takes_to_dial_us():
    async def registered():
        with socket_folder() as folder:
            kubelet = DeafKubelet()
            async with registration(kubelet, folder):
                await register(folder / "kubelet.sock", endpoint="p.sock", resource="a/b")
            # The kubelet dials for up to 10 s (pkg/kubelet/cm/devicemanager/plugin/v1beta1, dial).
            assert kubelet.patience > 10

    run_bounded(registered)
