from pathlib import Path

import pytest

from bastide._proto import podresources_v1_pb2 as pb
from bastide.errors import ConflictError, UnavailableError
from bastide.node.holders import Held
from bastide.node.kubelet.podresources import devices_of, held_devices
from support.bounded import run_bounded, socket_folder
from support.holding import HoldersKubelet, holding_pod, pod_resources

ENCLAVE = "sgx.intel.com/enclave"


def _with(kubelet, test):
    async def asked():
        with socket_folder() as folder:
            async with pod_resources(kubelet, folder / "kubelet.sock") as socket:
                await test(socket)

    run_bounded(asked)


PODS = (
    holding_pod("b", main=[(ENCLAVE, ["e-2"]), (ENCLAVE, ["e-1"]), ("example.com/gpu", ["g-1"])]),
    holding_pod("a", main=[("bastide.dev/quote", ["q-1"])], side=[(ENCLAVE, ["e-3"])]),
    holding_pod("plain", main=[]),
)
HELD_BY_B = Held(namespace="team", pod="b", container="main", resource=ENCLAVE, devices=("e-1", "e-2"))


def test_lists_devices_of_sgx_by_pod_and_container():
    async def listed(socket):
        held = await held_devices(socket)
        assert [(each.pod, each.container, each.resource, each.devices) for each in held] == [
            ("a", "main", "bastide.dev/quote", ("q-1",)),
            ("a", "side", ENCLAVE, ("e-3",)),
            ("b", "main", ENCLAVE, ("e-1", "e-2")),
        ]

    _with(HoldersKubelet(*PODS), listed)


def test_one_pod_can_be_asked_for():
    async def got(socket):
        assert await devices_of(socket, namespace="team", pod="b") == (HELD_BY_B,)
        assert await devices_of(socket, namespace="team", pod="plain") == ()

    _with(HoldersKubelet(*PODS), got)


def test_a_pod_that_the_kubelet_has_not_is_no_fault_of_the_kubelet():
    async def refused(socket):
        with pytest.raises(ConflictError, match="no pod team/ghost") as error:
            await devices_of(socket, namespace="team", pod="ghost")
        assert error.value.code == "node.podresources.unknown_pod"

    _with(HoldersKubelet(*PODS), refused)


def test_a_list_of_more_than_grpc_takes_by_itself_is_read():
    pods = [holding_pod(f"p-{n}", main=[(ENCLAVE, [f"device-{n}-{i:040}" for i in range(1000)])]) for n in range(110)]
    assert sum(pod.ByteSize() for pod in pods) > 4 << 20

    async def listed(socket):
        assert len(await held_devices(socket)) == 110

    _with(HoldersKubelet(*pods), listed)


def test_a_kubelet_that_does_not_answer_is_given_up():
    async def given_up(socket):
        with pytest.raises(UnavailableError, match="DEADLINE_EXCEEDED"):
            await held_devices(socket)

    _with(HoldersKubelet(mute=True), given_up)


def test_without_a_kubelet_there_is_an_error_of_ours():
    async def absent():
        with pytest.raises(UnavailableError) as error:
            await held_devices(Path("/nowhere/kubelet.sock"))
        assert error.value.code == "node.podresources.unavailable"

    run_bounded(absent)


def test_numbers_on_the_wire_are_the_kubelet_s():
    assert pb.DESCRIPTOR.package == "v1"
    assert [method.name for method in pb.DESCRIPTOR.services_by_name["PodResourcesLister"].methods] == ["List", "Get"]
    pod = holding_pod("n", c=[("r", ["d"])])
    raw = bytes.fromhex("0a016e 12047465616d 1a0b 0a0163 1206 0a0172 120164")
    assert pod.SerializeToString() == raw
    # CPUs, memory and claims, which later kubelets add at every level, are passed over.
    assert pb.PodResources.FromString(raw + bytes.fromhex("2001 2a020a00")).containers[0].devices[0].device_ids == ["d"]
