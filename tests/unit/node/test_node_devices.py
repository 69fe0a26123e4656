import dataclasses

import pytest

from bastide.errors import ConfigError, ConflictError
from bastide.node.described import WITHOUT_SGX, sgx_inventory
from bastide.node.devices import (
    MOST_DEVICES,
    DeviceLimits,
    Grant,
    GrantedMount,
    GrantedNode,
    offers,
    prefer,
)
from bastide.node.inventory import AesmSocket, DeviceNode, DeviceRole, DriverKind
from bastide.units import MIB, Bytes

ENCLAVE, PROVISION, QUOTE = "sgx.intel.com/enclave", "sgx.intel.com/provision", "bastide.dev/quote"
NODE = sgx_inventory(Bytes(64 * MIB))


def _offers(inventory=NODE, limits=None):
    return {offer.resource: offer for offer in offers(inventory, limits or DeviceLimits())}


def test_offers_three_resources_of_110_devices():
    assert {name: len(offer.devices) for name, offer in _offers().items()} == {ENCLAVE: 110, PROVISION: 110, QUOTE: 110}
    assert all(offer.healthy for offer in _offers().values())


def test_device_ids_are_stable_unique_and_short():
    ids = [device.id for offer in _offers().values() for device in offer.devices]
    assert len(set(ids)) == 330
    assert max(map(len, ids)) <= 63
    assert ids[0] == "sgx-enclave-0"
    assert ids == [device.id for offer in _offers(WITHOUT_SGX).values() for device in offer.devices]


def test_devices_are_unhealthy_and_as_many_without_hardware():
    for offer in _offers(WITHOUT_SGX).values():
        assert len(offer.devices) == 110
        assert not any(device.healthy for device in offer.devices)


def test_each_resource_follows_its_own_hardware():
    only_enclave = dataclasses.replace(
        NODE, aesm=None, device_nodes=tuple(n for n in NODE.device_nodes if n.role is DeviceRole.ENCLAVE)
    )
    assert [offer.healthy for offer in _offers(only_enclave).values()] == [True, False, False]


def test_enclave_grants_the_enclave_device_alone():
    grant = _offers()[ENCLAVE].allocate(["sgx-enclave-0", "sgx-enclave-1"])
    node = GrantedNode(host_path="/dev/sgx_enclave", container_path="/dev/sgx_enclave", permissions="rw")
    assert grant == Grant(device_nodes=(node,))


def test_provision_is_granted_by_its_own_resource_only():
    granted = {name: offer.allocate([offer.devices[0].id]).device_nodes for name, offer in _offers().items()}
    paths = {name: [node.host_path for node in nodes] for name, nodes in granted.items()}
    assert paths == {ENCLAVE: ["/dev/sgx_enclave"], PROVISION: ["/dev/sgx_provision"], QUOTE: []}


def test_quote_mounts_the_aesm_directory_read_only_and_says_so_to_the_library():
    elsewhere = dataclasses.replace(NODE, aesm=AesmSocket(path="/run/quoting/aesm.socket"))
    grant = _offers(elsewhere)[QUOTE].allocate(["sgx-quote-3"])
    assert grant.mounts == (GrantedMount(host_path="/run/quoting", container_path="/var/run/aesmd", read_only=True),)
    assert grant.environment == (("SGX_AESM_ADDR", "1"),)


def test_enclave_devices_hint_at_the_numa_nodes_with_epc():
    two = _offers(sgx_inventory(Bytes(MIB), Bytes(MIB)))
    assert two[ENCLAVE].devices[0].numa_nodes == (0, 1)
    assert two[QUOTE].devices[0].numa_nodes == ()


def test_a_legacy_driver_s_only_device_is_given_at_its_own_path_and_grants_no_provisioning():
    """Its launch enclave decides who may provision, so there is no device that gives that right."""
    legacy = dataclasses.replace(
        NODE, driver=DriverKind.LEGACY, device_nodes=(DeviceNode(role=DeviceRole.ENCLAVE, path="/dev/isgx"),)
    )
    offered = _offers(legacy)
    node = GrantedNode(host_path="/dev/isgx", container_path="/dev/isgx", permissions="rw")
    assert offered[ENCLAVE].allocate(["sgx-enclave-0"]).device_nodes == (node,)
    assert not offered[PROVISION].healthy


@pytest.mark.parametrize(
    ("inventory", "ids", "code"),
    [
        (NODE, [], "node.device.none"),
        (NODE, ["sgx-enclave-0", "sgx-enclave-110"], "node.device.unknown"),
        (NODE, ["sgx-provision-0"], "node.device.unknown"),
        (WITHOUT_SGX, ["sgx-enclave-0"], "node.device.unhealthy"),
    ],
)
def test_refuses_devices_that_it_cannot_give(inventory, ids, code):
    with pytest.raises(ConflictError) as refused:
        _offers(inventory)[ENCLAVE].allocate(ids)
    assert refused.value.code == code


def test_limits_are_per_resource():
    limited = _offers(limits=DeviceLimits(enclave=1, provision=2, quote=3))
    assert [len(offer.devices) for offer in limited.values()] == [1, 2, 3]


@pytest.mark.parametrize("number", [0, -1, MOST_DEVICES + 1])
@pytest.mark.parametrize("name", ["enclave", "provision", "quote"])
def test_refuses_limits_out_of_range(name, number):
    with pytest.raises(ConfigError) as refused:
        DeviceLimits(**{name: number})
    assert (refused.value.code, refused.value.where) == ("node.devices.limit", name)


@pytest.mark.parametrize(
    ("must", "size", "preferred"),
    [((), 2, ("a", "b")), (("c",), 2, ("c", "a")), (("c",), 1, ("c",)), ((), 9, ("a", "b", "c")), ((), -1, ())],
)
def test_prefers_what_must_be_included_then_the_first(must, size, preferred):
    assert prefer(["a", "b", "c"], must, size) == preferred
