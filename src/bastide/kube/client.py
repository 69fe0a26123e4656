"""The Kubernetes API as calls that give trees or our errors.

Source: Kubernetes API conventions ("Error codes", "Verbs on resources"); RFC 6902 (JSON patch), RFC 7396 (merge patch).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from urllib.parse import quote, urlencode

from bastide.errors import BastideError, ConfigError, ConflictError, MalformedError, UnavailableError
from bastide.kube.access import ClusterAccess
from bastide.kube.backoff import Backoff
from bastide.kube.http import Answer, Http, Request
from bastide.pods.tree import text

Tree = dict[str, object]
"""A JSON object."""

_TRIES = 5
_LONGEST_WAIT = 30.0
_BUSY = (429, 503)


class Patch(StrEnum):
    """Kinds of patch, by their media types."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    APPLY = "application/apply-patch+yaml"
    """Server-side apply; JSON is YAML."""


class ApiClient:
    """Calls to one API server. Where it says that it is busy, it is asked again, as late as it says.

    Args:
        access: where it is and who we are.
        chance: random numbers in [0, 1) for the back-off.
        seconds: how long any one read may take.
    """

    def __init__(self, access: ClusterAccess, *, chance: Callable[[], float], seconds: float = 10.0) -> None:
        self._http = Http(access, seconds=seconds)
        self._chance = chance

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Tree:
        """An object, or a list of objects.

        Raises:
            UnavailableError: ``kube.unavailable``, ``kube.busy``, ``kube.unauthorized``, ``kube.server``.
            ConfigError: ``kube.forbidden``, ``kube.token``.
            ConflictError: ``kube.not-found``, ``kube.conflict``, ``kube.invalid``, ``kube.gone``.
            MalformedError: ``kube.answer.size``, ``kube.answer.syntax``.
        """
        return await self._call(Request(method="GET", path=with_query(path, query)))

    async def patch(
        self, path: str, kind: Patch, body: Tree | Sequence[Tree], query: Mapping[str, str] | None = None
    ) -> Tree:
        """Change an object; errors as ``get``. A JSON patch whose ``test`` fails is ``kube.invalid``."""
        raw = json.dumps(body).encode()
        return await self._call(Request(method="PATCH", path=with_query(path, query), body=raw, content_type=kind))

    async def create(self, path: str, body: Tree) -> Tree:
        """Make an object; errors as ``get``."""
        return await self._call(Request(method="POST", path=path, body=json.dumps(body).encode()))

    async def replace(self, path: str, body: Tree) -> Tree:
        """Write the whole object; errors as ``get``.

        With ``metadata.resourceVersion`` in ``body`` only if nobody wrote in between: else ``kube.conflict``.
        """
        return await self._call(Request(method="PUT", path=path, body=json.dumps(body).encode()))

    async def delete(self, path: str) -> None:
        """Take an object away; errors as ``get``."""
        await self._call(Request(method="DELETE", path=path))

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str], *, seconds: float) -> AsyncIterator[AsyncIterator[Tree]]:
        """Events of a watch while the context lasts; errors as ``get``, without asking again."""
        request = Request(method="GET", path=with_query(path, query))
        async with self._http.stream(request, seconds=seconds) as (answer, lines):
            if answer.status != 200:
                raise error_of(answer, request)
            yield _trees(lines, path)

    async def _call(self, request: Request) -> Tree:
        backoff = Backoff(first=0.5, longest=_LONGEST_WAIT, chance=self._chance)
        for _ in range(_TRIES - 1):
            answer = await self._http.ask(request)
            if answer.status not in _BUSY:
                break
            asked = answer.retry_after or 0.0
            await asyncio.sleep(min(asked + backoff.next_delay(), _LONGEST_WAIT))
        else:
            answer = await self._http.ask(request)
        if not 200 <= answer.status < 300:
            raise error_of(answer, request)
        return read_tree(answer.body, request.path)


def resource_path(*segments: str) -> str:
    """``/api/v1/nodes/NAME`` of its parts, each encoded."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def with_query(path: str, query: Mapping[str, str] | None) -> str:
    """A path with its query, encoded."""
    return f"{path}?{urlencode(query)}" if query else path


def read_tree(raw: bytes, where: str) -> Tree:
    """A JSON object.

    Raises:
        MalformedError: ``kube.answer.syntax``.
    """
    try:
        tree: object = json.loads(raw)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise MalformedError("kube.answer.syntax", "expected a JSON object from the API server", where=where)
    return tree


def error_of(answer: Answer, request: Request) -> BastideError:
    """The error that an answer's status means."""
    try:
        message = text(read_tree(answer.body, request.path).get("message"))
    except MalformedError:
        message = ""
    said = f"{request.method}: status {answer.status}{f': {message[:300]}' if message else ''}"
    where = request.path.partition("?")[0]
    match answer.status:
        case 401:
            hint = "the token has ended or is of another cluster"
            return UnavailableError("kube.unauthorized", said, hint=hint, where=where)
        case 403:
            return ConfigError("kube.forbidden", said, hint="give the service account that right (RBAC)", where=where)
        case 404:
            return ConflictError("kube.not-found", said, where=where)
        case 409:
            return ConflictError("kube.conflict", said, where=where)
        case 410:
            return ConflictError("kube.gone", said, where=where)
        case 400 | 422:
            return ConflictError("kube.invalid", said, where=where)
        case 429 | 503:
            return UnavailableError("kube.busy", said, where=where)
    return UnavailableError("kube.server", said, where=where)


async def _trees(lines: AsyncIterator[bytes], where: str) -> AsyncIterator[Tree]:
    async for line in lines:
        yield read_tree(line, where)
