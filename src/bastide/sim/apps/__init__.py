"""Programs that run in the lab's enclaves. SIMULATION.

A container image with an EPC request is matched by its repository (any tag or digest). The bytes of the program's
module are the measured code pages of its enclave, so another program is another MRENCLAVE. An image that is not known
here runs as an opaque enclave: the EPC it asks for is filled and used once, and nothing is known about its program.
"""

from collections.abc import Callable, Generator, MutableMapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType

from bastide.sim.enclave import Inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What an enclave program reaches outside of its enclave; none of it is trusted.

    Attributes:
        log: lines the container printed.
        arguments: the container's ``args``.
        storage: files that outlive the pod, shared by the pods of one workload.
    """

    arguments: tuple[str, ...] = ()
    log: list[str] = field(default_factory=list)
    storage: MutableMapping[str, bytes] = field(default_factory=dict)

    def print(self, line: str) -> None:
        """Write one line to the container's log."""
        self.log.append(line)


Program = Callable[[Inside, Host], Generator[None, None, int]]
"""A program: given the inside of its enclave and its host, it returns the container's exit code.

At each ``yield`` the other enclaves of the node have a turn, as threads of other containers would.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One known program.

    Attributes:
        name: module below ``bastide.sim.apps``.
        heap_pages: heap of its enclave; None takes all that the container asks.
        product_id: ISVPRODID of its signature.
    """

    name: str
    heap_pages: int | None
    product_id: int

    def code(self) -> bytes:
        """The bytes that are measured: the source text of the program's module."""
        return files(__name__).joinpath(f"{self.name}.py").read_bytes()

    def program(self) -> Program:
        """The program itself."""
        run: Program = import_module(f"{__name__}.{self.name}").run
        return run


OPAQUE = App(name="opaque", heap_pages=None, product_id=0)

APPS = MappingProxyType(
    {
        "docker.io/oeciteam/sgx-test": App(name="hello", heap_pages=1024, product_id=1),
        "mcr.microsoft.com/acc/samples/oe-helloworld": App(name="hello", heap_pages=1024, product_id=1),
        "bastide.dev/lab/epc-eater": App(name="epc_eater", heap_pages=None, product_id=2),
        "bastide.dev/lab/sealer": App(name="sealer", heap_pages=64, product_id=3),
    }
)
"""Known programs by image repository, with its registry."""


def app_of(repository: str) -> App:
    """The program of an image repository; unknown ones are opaque."""
    return APPS.get(repository, OPAQUE)
