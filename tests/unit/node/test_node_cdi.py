import asyncio
import dataclasses
import json

import pytest

from bastide._proto import deviceplugin_v1beta1_pb2 as pb
from bastide.errors import UnavailableError
from bastide.node.agent import endpoint_of
from bastide.node.cdi import FILE_NAME, by_cdi, cdi_name, cdi_spec, remove_spec, write_spec
from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.devices import DeviceLimits, offers
from bastide.sim.kubelet import Kubelet
from bastide.units import MIB, Bytes
from support.bounded import eventually, run_bounded, socket_folder
from support.kubelets import plugin_stub, quick, running_agent

ENCLAVE = "sgx.intel.com/enclave"
NODE = sgx_inventory(Bytes(64 * MIB))


def _devices(inventory=NODE):
    spec = json.loads(cdi_spec(offers(inventory, DeviceLimits())))
    return {device["name"]: device["containerEdits"] for device in spec["devices"]}


def test_each_name_gives_what_the_resource_grants():
    node = {"path": "/dev/sgx_enclave", "hostPath": "/dev/sgx_enclave", "permissions": "rw"}
    assert _devices()["enclave"] == {"deviceNodes": [node]}
    assert _devices()["provision"]["deviceNodes"][0]["path"] == "/dev/sgx_provision"
    (mount,) = _devices()["quote"]["mounts"]
    assert (mount["hostPath"], mount["containerPath"]) == ("/var/run/aesmd", "/var/run/aesmd")
    assert "ro" in mount["options"]
    assert _devices()["quote"]["env"] == ["SGX_AESM_ADDR=1"]


def test_what_is_not_there_has_no_name_and_nothing_at_all_gives_no_file():
    assert set(_devices(dataclasses.replace(NODE, aesm=None))) == {"enclave", "provision"}
    assert cdi_spec(offers(WITHOUT_SGX, DeviceLimits())) is None


def test_names_are_those_of_the_file():
    spec = json.loads(cdi_spec(offers(NODE, DeviceLimits())))
    names = {f"{spec['kind']}={device['name']}" for device in spec["devices"]}
    assert names == {cdi_name(offer.resource) for offer in offers(NODE, DeviceLimits())}


def test_devices_that_are_not_healthy_have_no_name():
    assert [by_cdi(offer).grant.cdi for offer in offers(WITHOUT_SGX, DeviceLimits())] == ["", "", ""]


def test_the_file_is_replaced_whole_and_only_where_it_differs(tmp_path):
    folder = tmp_path / "run" / "cdi"
    write_spec(folder, b"1")
    first = (folder / FILE_NAME).stat()
    write_spec(folder, b"1")
    assert (folder / FILE_NAME).stat().st_ino == first.st_ino
    write_spec(folder, b"2")
    assert (folder / FILE_NAME).stat().st_ino != first.st_ino
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]
    assert (folder / FILE_NAME).stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError) as error:
        write_spec(tmp_path / "file", b"1")
    assert error.value.code == "node.cdi.write"


def test_cleaning_up_takes_away_our_file_alone(tmp_path):
    (tmp_path / "other.json").touch()
    write_spec(tmp_path, b"1")
    assert remove_spec(tmp_path)
    assert not remove_spec(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


async def _allocated(folder):
    async with plugin_stub(folder / endpoint_of(ENCLAVE)) as stub:
        asked = [pb.ContainerAllocateRequest(devices_ids=["sgx-enclave-0"])]
        answer = await stub.Allocate(pb.AllocateRequest(container_requests=asked))
    (granted,) = answer.container_responses
    return [device.name for device in granted.cdi_devices], [node.host_path for node in granted.devices]


def _with_agent(test, cdi_dir):
    async def both():
        with socket_folder() as folder:
            kubelet = Kubelet(folder)
            await kubelet.start()
            try:
                settings = dataclasses.replace(quick(folder), cdi_dir=cdi_dir)
                async with running_agent(DescribedHardware(NODE), settings):
                    await kubelet.until_allocatable({ENCLAVE: 110})
                    await test(folder)
            finally:
                await kubelet.stop()

    run_bounded(both)


def test_the_agent_writes_the_file_before_it_answers_by_name(tmp_path):
    async def answered(folder):
        assert (tmp_path / FILE_NAME).exists()
        assert await _allocated(folder) == (["bastide.dev/sgx=enclave"], [])

    _with_agent(answered, tmp_path)


def test_without_the_folder_the_agent_gives_devices_as_they_are_until_it_can_be_written(tmp_path):
    blocked = tmp_path / "cdi"
    blocked.touch()

    async def answered(folder):
        assert await _allocated(folder) == ([], ["/dev/sgx_enclave"])
        blocked.unlink()
        await eventually((blocked / FILE_NAME).exists, "written at last")
        await asyncio.sleep(0.05)
        assert await _allocated(folder) == (["bastide.dev/sgx=enclave"], [])

    _with_agent(answered, blocked)
