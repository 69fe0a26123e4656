"""The real KEDA in the chart's cluster, by its own manifests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.api import ApiError, eventually
from e2e.charted import ChartCluster
from e2e.cluster import collection_of
from e2e.images import layer_of, write_image
from e2e.installed import EXTERNAL

IMAGE = "localhost/e2e-keda:1"
NAMESPACE = "keda"
MANIFESTS = (
    "general/namespace.yaml",
    "crd/bases/keda.sh_*.yaml",
    "crd/bases/eventing.keda.sh_*.yaml",
    "service_account/service_account.yaml",
    "rbac/role*.yaml",
    "manager/*.yaml",
    "metrics-server/*.yaml",
)


class Keda:
    """Operator and metrics server.

    Args:
        cluster: where.
        folder: what keda.sh has built.
    """

    def __init__(self, cluster: ChartCluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder

    def install(self) -> None:
        """Apply its manifests, with an image of what was built, and wait until external metrics are its own."""
        programs = {"keda": self._folder / "operator", "keda-adapter": self._folder / "adapter"}
        archive = self._cluster.box.folder / "images" / "keda.tar"
        layer = layer_of({name: file.read_bytes() for name, file in programs.items()})
        self._cluster.import_image(write_image(archive, IMAGE, layer, ["/keda"]))
        for one in self._objects():
            self._cluster.api.create(collection_of(one), one)
        eventually(self._require_ready)

    def remove(self) -> None:
        """Take back what other tests would meet: external metrics are somebody else's again."""
        self._cluster.api.delete("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io")

    def _objects(self) -> Iterator[dict[str, Any]]:
        for pattern in MANIFESTS:
            for file in sorted((self._folder / "config").glob(pattern)):
                for one in yaml.safe_load_all(file.read_text()):
                    if one is not None and one["kind"] != "Kustomization":
                        yield _in_the_box(one) if one["kind"] == "Deployment" else one

    def _require_ready(self) -> None:
        deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
        for one in self._cluster.api.get(deployments)["items"]:
            assert one["status"].get("readyReplicas") == 1, one["status"]
        try:
            self._cluster.api.get(EXTERNAL)
        except ApiError as error:
            raise AssertionError(f"external metrics are not served yet: {error}") from error


def _in_the_box(deployment: dict[str, Any]) -> dict[str, Any]:
    """The same with the image of what was built, whose user has no name that says who it is."""
    pod = deployment["spec"]["template"]["spec"]
    pod["securityContext"]["runAsUser"] = 1000
    for container in pod["containers"]:
        container |= {"image": IMAGE, "imagePullPolicy": "Never"}
    return deployment
