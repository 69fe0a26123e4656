"""What code inside of a simulated enclave can do: use its memory, report on itself, get keys. SIMULATION."""

from dataclasses import dataclass

from bastide.sgx.keys import KeyName, KeyPolicy, KeyRequest
from bastide.sgx.report import Report, TargetInfo
from bastide.sim.cpu import Cpu
from bastide.units import Pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The inside of one initialised enclave.

    Attributes:
        cpu: the processor that runs it.
        eid: the enclave's number on that processor.
        heap_first: page number of its heap from the enclave's base.
        heap_pages: pages of its heap.
    """

    cpu: Cpu
    eid: int
    heap_first: int
    heap_pages: int

    def touch_heap(self) -> Pages:
        """Use every heap page once, in order; returns how many had to be reloaded from outside of the EPC."""
        return self.cpu.epc.touch(self.eid, self.heap_first, self.heap_pages)

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        """EREPORT: a report on this enclave (64 bytes of its own choice in it) that only ``target`` can check."""
        return self.cpu.ereport(self.eid, target, report_data)

    def get_key(self, request: KeyRequest) -> bytes:
        """EGETKEY: 16 bytes that depend on this enclave, the CPU and the request."""
        return self.cpu.egetkey(self.eid, request)

    def seal_key_request(self) -> KeyRequest:
        """A request for a sealing key of this signer at this security version, fresh at each call."""
        return self.cpu.seal_key_request(self.eid, KeyName.SEAL, KeyPolicy.MRSIGNER)
