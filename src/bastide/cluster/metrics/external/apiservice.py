"""The APIService by which a cluster aggregates the external metrics API: there is one, and it has one owner.

Source: Kubernetes API reference, APIService (apiregistration.k8s.io/v1); RFC 6902.
"""

import base64
from typing import Final

from bastide.cluster.metrics.external.documents import GROUP, VERSION
from bastide.errors import ConflictError, PolicyError
from bastide.kube.client import ApiClient, Patch, Tree, resource_path
from bastide.pods.tree import at, mapping, text

NAME: Final = f"{VERSION}.{GROUP}"
_PATH: Final = resource_path("apis", "apiregistration.k8s.io", "v1", "apiservices", NAME)


async def check_owner(client: ApiClient, *, namespace: str, service: str) -> bool:
    """Whether the APIService is there and ours; False where there is none.

    Args:
        client: of the API server.
        namespace, service: of our Service.

    Raises:
        PolicyError: ``cluster.metrics.apiservice``: somebody else serves external metrics; nothing may be installed
            over it.
        BastideError: those of ``ApiClient.get``.
    """
    tree = await _read(client)
    if tree is None:
        return False
    owner = mapping(at(tree, ("spec", "service")))
    if (owner.get("namespace"), owner.get("name")) != (namespace, service):
        whose = f"{text(owner.get('namespace'))}/{text(owner.get('name'))}" if owner else "the API server itself"
        raise PolicyError(
            "cluster.metrics.apiservice",
            f"external metrics are served by {whose[:200]} already, and a cluster has one server of them",
            hint="use KEDA's external scaler or Prometheus, or remove the other first",
            where=NAME,
        )
    return True


class ApiServiceBundle:
    """Tells the API server whom to trust for our certificate: a ``certificate_keeper.Publisher``.

    Args:
        client: of the API server.
        namespace, service: of our Service; an APIService of anybody else is left alone.
    """

    def __init__(self, client: ApiClient, *, namespace: str, service: str) -> None:
        self._client = client
        self._namespace = namespace
        self._service = service

    async def publish(self, bundle: bytes) -> None:
        """Write ``bundle`` (PEM) where it is not yet.

        Raises:
            PolicyError: it is not ours.
            ConflictError: ``kube.not-found``: it is not there; ``kube.invalid``: it has changed meanwhile.
            BastideError: those of ``ApiClient``.
        """
        if not await check_owner(self._client, namespace=self._namespace, service=self._service):
            raise ConflictError("kube.not-found", "the APIService is not there", where=NAME)
        wanted = base64.b64encode(bundle).decode()
        tree = await _read(self._client)
        if at(tree, ("spec", "caBundle")) == wanted:
            return
        ours: list[Tree] = [
            {"op": "test", "path": "/spec/service/namespace", "value": self._namespace},
            {"op": "test", "path": "/spec/service/name", "value": self._service},
            {"op": "add", "path": "/spec/caBundle", "value": wanted},
        ]
        await self._client.patch(_PATH, Patch.JSON, ours)


async def _read(client: ApiClient) -> Tree | None:
    try:
        return await client.get(_PATH)
    except ConflictError as error:
        if error.code != "kube.not-found":
            raise
        return None
