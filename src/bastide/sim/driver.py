"""The kernel's SGX driver on a simulated node: the way from a container's devices to a running enclave. SIMULATION.

Source: Linux Documentation/arch/x86/sgx.rst ("SGX device", "Provisioning control", "Launch control").
"""

from collections.abc import Collection

from bastide.enclave.layout import PageRun
from bastide.errors import UntrustedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sim.cpu import CHUNK, Cpu
from bastide.sim.enclave import Inside
from bastide.sim.images import EnclaveImage
from bastide.units import PAGE_SIZE

ENCLAVE_DEVICE = "/dev/sgx_enclave"
PROVISION_DEVICE = "/dev/sgx_provision"


def load(cpu: Cpu, image: EnclaveImage, devices: Collection[str]) -> Inside:
    """Load and start an enclave for a container that has ``devices`` (paths); it stays until ``cpu.eremove``.

    Raises:
        UntrustedError: ``device.enclave.absent``, ``device.provision.absent``, or what EINIT refuses.
        MalformedError: what ECREATE, EADD and EEXTEND refuse.
        UnavailableError: ``epc.exhausted``.
    """
    if ENCLAVE_DEVICE not in devices:
        raise UntrustedError(
            "device.enclave.absent",
            f"the container has no {ENCLAVE_DEVICE}, so no enclave can be created",
            hint="ask for EPC or for sgx.intel.com/enclave; admission then adds the device",
        )
    if AttributeFlags.PROVISIONKEY in image.secs.attributes.flags and PROVISION_DEVICE not in devices:
        raise UntrustedError(
            "device.provision.absent",
            f"the enclave wants PROVISIONKEY and the container has no {PROVISION_DEVICE}",
            hint="ask for sgx.intel.com/provision, if the admission policy allows it, or let AESM make the quotes",
        )
    eid = cpu.ecreate(image.secs)
    try:
        for run in image.runs:
            add_pages(cpu, eid, run)
        cpu.einit(eid, image.sigstruct, launch_key_hash=image.sigstruct.mr_signer)
    except BaseException:
        cpu.eremove(eid)
        raise
    return Inside(cpu=cpu, eid=eid, heap_first=image.heap_offset // PAGE_SIZE, heap_pages=image.heap_pages)


def add_pages(cpu: Cpu, eid: int, run: PageRun) -> None:
    """SGX_IOC_ENCLAVE_ADD_PAGES: EADD of each page, and EEXTEND of the chunks of it that are measured."""
    if run.zero_pages:
        cpu.eadd_zero_pages(eid, run.offset, run.zero_pages, run.secinfo)
    for number in range(run.pages - run.zero_pages):
        start = number * PAGE_SIZE % max(1, len(run.content))
        offset = run.offset + number * PAGE_SIZE
        cpu.eadd(eid, offset, run.secinfo, bytes(run.content[start : start + PAGE_SIZE]))
        for chunk in run.chunks:
            cpu.eextend(eid, offset + chunk * CHUNK)
