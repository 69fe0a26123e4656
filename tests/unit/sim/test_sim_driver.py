from collections.abc import Callable
from dataclasses import replace

import pytest

from bastide.errors import BastideError
from bastide.sim.driver import ENCLAVE_DEVICE, PROVISION_DEVICE, load
from bastide.sim.epc import BLOCK
from bastide.sim.images import EnclaveImage, changed_after_signing, with_broken_signature
from support.enclaves import DEVICES, cpu, image, started


def test_loads_and_starts_an_enclave() -> None:
    processor, built = cpu(), image(heap_pages=9)
    inside = load(processor, built, (ENCLAVE_DEVICE,))
    assert processor.identity(inside.eid).mr_enclave == built.sigstruct.enclave_hash
    assert processor.epc.usage().committed == built.epc.pages
    assert (inside.heap_first * 4096, inside.heap_pages) == (built.heap_offset, 9)


@pytest.mark.parametrize("devices", [(), (PROVISION_DEVICE,), ("/dev/sgx_enclave2",)])
def test_refuses_a_container_without_the_enclave_device(devices: tuple[str, ...]) -> None:
    refused("device.enclave.absent", image(), devices)


def test_refuses_provisionkey_without_the_provision_device() -> None:
    refused("device.provision.absent", image(provision=True), (ENCLAVE_DEVICE,))
    load(cpu(), image(provision=True), DEVICES)


@pytest.mark.parametrize(
    ("code", "break_it"),
    [
        ("einit.invalid_measurement", changed_after_signing),
        ("einit.invalid_signature", with_broken_signature),
        ("epcm.page.present", lambda built: replace(built, runs=(*built.runs, built.runs[0]))),
        ("eadd.offset", lambda built: replace(built, secs=replace(built.secs, size=8192))),
        ("ecreate.size", lambda built: replace(built, secs=replace(built.secs, size=8191))),
    ],
    ids=["changed page", "broken signature", "page twice", "address range too small", "odd size"],
)
def test_a_failed_load_leaves_no_epc_behind(code: str, break_it: Callable[[EnclaveImage], EnclaveImage]) -> None:
    refused(code, break_it(image()), DEVICES)


def test_a_load_that_finds_no_epc_leaves_none_behind_and_the_others_whole() -> None:
    processor = cpu(pages=BLOCK + 40)
    first = started(processor, image())
    used = processor.epc.usage().used
    with pytest.raises(BastideError) as raised:
        started(processor, image(heap_pages=50 * 512))
    assert raised.value.code == "epc.exhausted"
    assert processor.epc.usage().used == used
    assert first.touch_heap() == 0
    started(processor, image())


def refused(code: str, built: EnclaveImage, devices: tuple[str, ...]) -> None:
    processor = cpu()
    with pytest.raises(BastideError) as raised:
        load(processor, built, devices)
    assert raised.value.code == code
    assert (processor.epc.usage().used, processor.epc.usage().committed) == (0, 0)
