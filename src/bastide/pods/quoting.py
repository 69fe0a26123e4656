"""Who makes a pod's quotes, and what its containers need for that.

The annotation ``sgx.intel.com/quote-provider`` carries the name of a container:

* a container of the pod quotes in its own process: it needs ``sgx.intel.com/provision``, which the admission policy
  has to allow;
* ``aesmd`` means quotes out of process. Every container with an enclave gets ``bastide.dev/quote: 1``, for which the
  node agent mounts the node's own socket and sets ``SGX_AESM_ADDR``; none of them needs provisioning. A container that
  mounts a volume of the pod there has brought its own socket and is left alone. A container itself named ``aesmd`` is
  a quoting daemon: it gets the provision device (if policy allows) and no socket.

As with Intel's webhook, containers that ask for no enclave are passed over.

Manifests for AKS mount the daemon's folder by hostPath instead, without the annotation. Where that is all it is for,
the same resource takes its place: ``lent_socket``.

Source: Intel device plugins for Kubernetes v0.36, SGX admission webhook; Bastide's own resource replaces its hostPath.
AKS "Confidential computing nodes: quote generation with out-of-process attestation" (hostPath and mount of
``/var/run/aesmd``, ``SGX_AESM_ADDR=1``).
"""

from dataclasses import dataclass
from typing import Final

from bastide.pods.hostpaths import is_aesmd, resolved
from bastide.pods.request import AESMD, ContainerAsk, HostVolume, SgxRequest
from bastide.pods.tree import at, mapping, sequence, text

_PLACES: Final = ("/run/aesmd", "/run/aesmd/aesm.socket")
"""The daemon's folder and its socket; ``/var/run`` is ``/run``."""
_PARTS: Final = ("subPath", "subPathExpr")


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
    volume = lent_socket(pod, request)
    lent = [ask for ask in users if volume is not None and mounts_of(at(pod, ask.path), volume.name)]
    return Quoting(
        socket=tuple(ask for ask in users if ask in lent or (provider == AESMD and _needs_socket(pod, ask))),
        provision=tuple(ask for ask in users if ask.name == provider),
    )


def lent_socket(pod: object, request: SgxRequest) -> HostVolume | None:
    """The hostPath volume of the daemon's own folder or socket, if its only use is to ask for quotes.

    It is mounted whole, at that very place, by containers that have an enclave and make no quotes themselves. The node
    agent mounts the folder there for ``bastide.dev/quote``. None where there are several such volumes.
    """
    volumes = [volume for volume in request.volumes if _place(volume.host_path) in _PLACES]
    return volumes[0] if len(volumes) == 1 and _is_lent(pod, request, volumes[0]) else None


def mounts_of(container: object, volume: str) -> list[object]:
    """The container's mounts of a volume."""
    mounts = sequence(at(container, ("volumeMounts",)))
    return [mount for mount in mounts if text(at(mount, ("name",))) == volume]


def _place(path: str) -> str:
    return resolved(path).removeprefix("/var")


def _is_lent(pod: object, request: SgxRequest, volume: HostVolume) -> bool:
    users = [ask for ask in request.containers if mounts_of(at(pod, ask.path), volume.name)]
    mounts = [mapping(mount) for ask in users for mount in mounts_of(at(pod, ask.path), volume.name)]
    return (
        request.quote_provider in (None, AESMD)
        and bool(users)
        and all(map(_asks_for_quotes_only, users))
        and all(_place(text(mount.get("mountPath"))) == _place(volume.host_path) for mount in mounts)
        and not any(part in mount for mount in mounts for part in _PARTS)
    )


def _asks_for_quotes_only(ask: ContainerAsk) -> bool:
    has_enclave = bool(ask.epc or ask.enclave)
    return has_enclave and not ask.provision and ask.name != AESMD


def _needs_socket(pod: object, ask: ContainerAsk) -> bool:
    return ask.name != AESMD and not brings_socket(at(pod, ask.path))


def brings_socket(container: object) -> bool:
    """Whether the container mounts something at the socket's place itself."""
    mounts = sequence(at(container, ("volumeMounts",)))
    return any(is_aesmd(path) for mount in mounts if (path := text(at(mount, ("mountPath",)))))
