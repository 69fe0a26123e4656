"""Who makes a pod's quotes, and what its containers need for that.

The annotation ``sgx.intel.com/quote-provider`` carries the name of a container:

* a container of the pod quotes in its own process: it needs ``sgx.intel.com/provision``, which the admission policy
  has to allow;
* ``aesmd`` means quotes out of process. Every container with an enclave gets ``bastide.dev/quote: 1``, for which the
  node agent mounts the node's own socket and sets ``SGX_AESM_ADDR``; none of them needs provisioning. A container that
  mounts a volume of the pod there has brought its own socket and is left alone. A container itself named ``aesmd`` is
  a quoting daemon: it gets the provision device (if policy allows) and no socket.

As with Intel's webhook, containers that ask for no enclave are passed over.

Source: Intel device plugins for Kubernetes v0.36, SGX admission webhook; Bastide's own resource replaces its hostPath.
"""

from dataclasses import dataclass

from bastide.pods.hostpaths import is_aesmd
from bastide.pods.request import AESMD, ContainerAsk, SgxRequest
from bastide.pods.tree import at, sequence, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting:
    """What the annotation asks for.

    Attributes:
        socket: containers that get ``bastide.dev/quote``.
        provision: containers that get ``sgx.intel.com/provision``.
    """

    socket: tuple[ContainerAsk, ...]
    provision: tuple[ContainerAsk, ...]


def quoting(pod: object, request: SgxRequest) -> Quoting:
    """Which containers of ``pod`` need what to make quotes, by its annotation."""
    provider = request.quote_provider
    users = [ask for ask in request.containers if ask.epc or ask.enclave]
    return Quoting(
        socket=tuple(
            ask for ask in users if provider == AESMD and ask.name != AESMD and not brings_socket(at(pod, ask.path))
        ),
        provision=tuple(ask for ask in users if ask.name == provider),
    )


def brings_socket(container: object) -> bool:
    """Whether the container mounts something at the socket's place itself."""
    mounts = sequence(at(container, ("volumeMounts",)))
    return any(is_aesmd(path) for mount in mounts if (path := text(at(mount, ("mountPath",)))))
