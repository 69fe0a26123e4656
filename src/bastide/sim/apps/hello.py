"""``sgx-test`` and ``oe-helloworld``: the enclave calls its host to print a greeting, as the originals do."""

from collections.abc import Generator

from bastide.sim.apps import Host
from bastide.sim.enclave import Inside


def run(inside: Inside, host: Host) -> Generator[None, None, int]:
    """Greet from inside, then through a call to the host."""
    host.print("Hello world from the enclave")
    inside.touch_heap()
    yield
    host.print("Enclave called into host to print: Hello World!")
    return 0
