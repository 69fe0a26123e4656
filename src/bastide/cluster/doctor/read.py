"""What the doctor reads of a cluster, by ``get`` and ``list`` alone; what it may not read, it says.

Source: Kubernetes API concepts, "Retrieving large results sets in chunks".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bastide.cluster.gate.report import PLURAL as IMAGES
from bastide.cluster.gate.report import object_name
from bastide.cluster.gate.trusted import PLURAL as SIGNERS
from bastide.errors import BastideError, ConfigError, ConflictError, MalformedError
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.paging import PAGE
from bastide.pods.tree import at, mapping, sequence, text

MOST_OBJECTS: Final = 200_000
"""Of one kind; Kubernetes supports 150,000 pods in one cluster."""

_CORE: Final = ("api", "v1")
_WEBHOOKS: Final = ("apis", "admissionregistration.k8s.io", "v1")
_OWN: Final = ("apis", "bastide.dev", "v1alpha1")
_SLICES: Final = ("apis", "discovery.k8s.io", "v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Something that could not be read.

    Attributes:
        what: the right that is missing, such as ``list nodes``, or what was asked for.
        why: what the API server says.
        forbidden: whether a right is missing (and not the API, or the object).
    """

    what: str
    why: str
    forbidden: bool


@dataclass(slots=True, kw_only=True)
class Cluster:
    """What was read. A kind that could not be read is None, which is not the same as none there.

    Attributes:
        nodes: all nodes.
        pods: all pods, or where that is forbidden those of one namespace.
        pods_partial: whether ``pods`` are those of one namespace only.
        mutating: MutatingWebhookConfigurations.
        validating: ValidatingWebhookConfigurations.
        signers: TrustedSigner objects.
        config_maps: of the release's namespace.
        slices: EndpointSlices of the release's namespace.
        secret: with the admission's server certificate.
        events: of the namespace that is asked about.
        images: EnclaveImage objects by digest, of the pod that is asked about.
        unread: what could not be read.
    """

    nodes: tuple[Tree, ...] | None = None
    pods: tuple[Tree, ...] | None = None
    pods_partial: bool = False
    mutating: tuple[Tree, ...] | None = None
    validating: tuple[Tree, ...] | None = None
    signers: tuple[Tree, ...] | None = None
    config_maps: tuple[Tree, ...] | None = None
    slices: tuple[Tree, ...] | None = None
    secret: Tree | None = None
    events: tuple[Tree, ...] | None = None
    images: dict[str, Tree] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)


async def read_cluster(client: ApiClient, *, release: str, namespace: str, secret: str) -> Cluster:
    """Read what the doctor looks at.

    Args:
        client: of the API server.
        release: namespace of Bastide.
        namespace: whose pods are asked about; empty: no events are read.
        secret: name of the admission's certificate in ``release``.

    Raises:
        BastideError: the API server cannot be reached, or does not know us: then nothing can be said.
    """
    reader = _Reader(client)
    found = Cluster(
        nodes=await reader.list_of(_CORE, "nodes"),
        pods=await reader.list_of(_CORE, "pods"),
        mutating=await reader.list_of(_WEBHOOKS, "mutatingwebhookconfigurations"),
        validating=await reader.list_of(_WEBHOOKS, "validatingwebhookconfigurations"),
        signers=await reader.list_of(_OWN, SIGNERS),
        config_maps=await reader.list_of(_CORE, "configmaps", release),
        slices=await reader.list_of(_SLICES, "endpointslices", release),
        secret=await reader.get(_CORE, "secrets", secret, release),
        events=await reader.list_of(_CORE, "events", namespace) if namespace else (),
        unread=reader.unread,
    )
    if found.pods is None and namespace:
        found.pods = await reader.list_of(_CORE, "pods", namespace)
        found.pods_partial = True
    return found


async def read_images(client: ApiClient, cluster: Cluster, digests: tuple[str, ...]) -> None:
    """Add what is known of images to ``cluster.images``."""
    reader = _Reader(client)
    for digest in digests:
        try:
            name = object_name(digest)
        except MalformedError:
            continue
        tree = await reader.get(_OWN, IMAGES, name)
        if tree is not None:
            cluster.images[digest] = tree
    cluster.unread += [one for one in reader.unread if one.forbidden]


class _Reader:
    """Reads, and remembers what it was refused."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.unread: list[Unread] = []

    async def list_of(self, group: tuple[str, ...], plural: str, namespace: str = "") -> tuple[Tree, ...] | None:
        """All objects of one kind; None where they cannot be read."""
        below = ("namespaces", namespace) if namespace else ()
        path = resource_path(*group, *below, plural)
        objects: list[Tree] = []
        more = ""
        try:
            while True:
                query = {"limit": str(PAGE)} | ({"continue": more} if more else {})
                page = await self._client.get(path, query)
                objects += [mapping(item) for item in sequence(page.get("items"))]
                more = text(at(page, ("metadata", "continue")))
                if not more or len(objects) > MOST_OBJECTS:
                    return tuple(objects)
        except (ConfigError, ConflictError) as error:
            self._missed("list", plural, namespace, error)
            return None

    async def get(self, group: tuple[str, ...], plural: str, name: str, namespace: str = "") -> Tree | None:
        """One object; None where it cannot be read or is not there."""
        below = ("namespaces", namespace) if namespace else ()
        try:
            return await self._client.get(resource_path(*group, *below, plural, name))
        except (ConfigError, ConflictError) as error:
            self._missed("get", f"{plural}/{name}", namespace, error)
            return None

    def _missed(self, verb: str, what: str, namespace: str, error: BastideError) -> None:
        if error.code not in ("kube.forbidden", "kube.not-found", "kube.gone"):
            raise error
        place = f" in namespace {namespace}" if namespace else ""
        forbidden = error.code == "kube.forbidden"
        self.unread.append(Unread(what=f"{verb} {what}{place}", why=error.message, forbidden=forbidden))


def labels_of(tree: Mapping[str, object]) -> dict[str, str]:
    """Labels of an object; others than texts are left out."""
    labels = mapping(at(tree, ("metadata", "labels")))
    return {key: value for key, value in labels.items() if isinstance(value, str)}


def name_of(tree: object) -> str:
    """Of an object."""
    return text(at(tree, ("metadata", "name")))


def namespace_of(tree: object) -> str:
    """Of an object; empty where it has none."""
    return text(at(tree, ("metadata", "namespace")))
