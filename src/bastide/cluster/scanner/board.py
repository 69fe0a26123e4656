"""EnclaveImage objects: what the scanner found, for all to read."""

from typing import Final

from bastide.cluster.gate.report import API_VERSION, PLURAL, ImageReport, object_name
from bastide.errors import ConflictError, MalformedError
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.pods.tree import at, text

_TRIES: Final = 4


class Board:
    """Reads and writes reports.

    Args:
        client: of the API server.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, digest: str) -> ImageReport | None:
        """The report about an image; None where there is none, or one that cannot be read.

        Raises:
            UnavailableError, ConfigError: those of ``ApiClient.get``.
        """
        found = await self._object(digest)
        return None if found is None else _report(found)

    async def put(self, report: ImageReport) -> None:
        """Write a report. A good one is never replaced by a failure: what was seen once is in the image.

        Raises:
            UnavailableError, ConfigError, ConflictError: those of ``ApiClient``.
        """
        for _ in range(_TRIES - 1):
            try:
                return await self._put(report)
            except ConflictError as error:  # another replica was quicker, or the object is gone again
                if error.code not in ("kube.conflict", "kube.not-found"):
                    raise
        return await self._put(report)

    async def _put(self, report: ImageReport) -> None:
        tree = report.build()
        existing = await self._object(report.digest)
        if existing is None:
            await self._client.create(_folder(), tree)
            return
        known = _report(existing)
        if report.failure is not None and known is not None and known.failure is None:
            return
        version = text(at(existing, ("metadata", "resourceVersion")))
        metadata = {"name": object_name(report.digest), "resourceVersion": version}
        await self._client.replace(_path(report.digest), {**tree, "metadata": metadata})

    async def _object(self, digest: str) -> Tree | None:
        try:
            return await self._client.get(_path(digest))
        except ConflictError as error:
            if error.code != "kube.not-found":
                raise
            return None


def _report(tree: Tree) -> ImageReport | None:
    try:
        return ImageReport.parse(tree)
    except MalformedError:
        return None


def _folder() -> str:
    return resource_path("apis", *API_VERSION.split("/"), PLURAL)


def _path(digest: str) -> str:
    return f"{_folder()}{resource_path(object_name(digest))}"
