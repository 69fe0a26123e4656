"""``sgx-test`` and ``oe-helloworld``: the enclave calls its host to print a greeting, as the originals do."""

from bastide.sim.apps import Host
from bastide.sim.enclave import Inside


def run(inside: Inside, host: Host) -> int:
    """Greet from inside, then through a call to the host."""
    host.print("Hello world from the enclave")
    inside.touch_heap()
    host.print("Enclave called into host to print: Hello World!")
    return 0
