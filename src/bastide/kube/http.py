"""HTTP to the API server: one request per connection, in a thread, within bounds, and ended by cancelling.

``http.client`` blocks; a task that is cancelled closes the socket under it, so that its thread ends as well.
"""

import asyncio
import http.client
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from bastide.errors import MalformedError, UnavailableError
from bastide.kube.access import ClusterAccess

LARGEST_ANSWER = 32 << 20
"""Bytes of one answer: a list of all pods of a large cluster has less."""

LARGEST_LINE = 4 << 20
"""Bytes of one event of a watch; objects in etcd have at most 1.5 MiB."""

_LARGEST_ERROR = 64 * 1024
_LONGEST_NUMBER = 6
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; ``path`` begins with ``/`` and is encoded."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and body of an answer; ``retry_after`` in seconds where the server gives it so."""

    status: int
    body: bytes
    retry_after: float | None = None


class Http:
    """Requests to one API server.

    Args:
        access: where it is and who we are.
        seconds: how long any one read or write may take.
    """

    def __init__(self, access: ClusterAccess, *, seconds: float = 10.0) -> None:
        self._access = access
        self._seconds = seconds

    async def ask(self, request: Request) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            UnavailableError: ``kube.unavailable``.
            MalformedError: ``kube.answer.size``.
            ConfigError: of ``ClusterAccess.authorization``.
        """
        async with _worker(self._connect(self._seconds)) as worker:
            return await worker.run(lambda connection: self._ask(connection, request))

    @asynccontextmanager
    async def stream(self, request: Request, *, seconds: float) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Send a request and read its answer line by line while the context lasts.

        Args:
            request: what to send.
            seconds: silence after which the connection counts as dead.

        Gives:
            the answer (with a body if its status is not 200), and its lines (if it is).

        Raises:
            as ``ask``; reading lines too, with ``kube.answer.size`` for a line that is too long.
        """
        async with _worker(self._connect(seconds)) as worker:
            response = await worker.run(lambda connection: self._send(connection, request))
            worker.close_at_end(response)
            body = (
                b"" if response.status == http.client.OK else await worker.run(lambda _: response.read(_LARGEST_ERROR))
            )
            yield _answer(response, body), _lines(worker, response)

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        access = self._access
        if access.tls is None:
            return http.client.HTTPConnection(access.host, access.port, timeout=seconds)
        if access.server_name:
            return _NamedConnection(access.host, access.port, seconds, access.tls, access.server_name)
        return http.client.HTTPSConnection(access.host, access.port, timeout=seconds, context=access.tls)

    def _send(self, connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "bastide", **self._access.authorization()}
        if request.body:
            headers["Content-Type"] = request.content_type
        connection.request(request.method, self._access.prefix + request.path, request.body or None, headers)
        return connection.getresponse()

    def _ask(self, connection: http.client.HTTPConnection, request: Request) -> Answer:
        with self._send(connection, request) as response:
            body = response.read(LARGEST_ANSWER + 1)
            if len(body) > LARGEST_ANSWER:
                message = f"expected at most {LARGEST_ANSWER >> 20} MiB"
                raise MalformedError("kube.answer.size", message, where=request.path)
            if response.length:
                raise UnavailableError("kube.unavailable", "the answer ends before its end", where=request.path)
        return _answer(response, body)


class _NamedConnection(http.client.HTTPConnection):
    """TLS with a server whose certificate has another name than the one we reach it by (``tls-server-name``)."""

    def __init__(self, host: str, port: int, seconds: float, tls: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=seconds)
        self._tls = tls
        self._name = name

    def connect(self) -> None:
        super().connect()
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


class _Worker:
    """A connection and the thread that uses it."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kube")
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None

    async def connect(self) -> None:
        """Connect, and keep hold of the socket: the connection lets go of one that the server will close."""
        await self.run(lambda connection: connection.connect())
        self._socket = self._connection.sock

    def close_at_end(self, response: http.client.HTTPResponse) -> None:
        """An answer that is still being read when the work ends."""
        self._response = response

    async def run(self, work: Callable[[http.client.HTTPConnection], _Result]) -> _Result:
        """Do ``work`` in the thread; faults of the connection become ours."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._connection)
        except (OSError, http.client.HTTPException) as error:
            where = f"{self._connection.host}:{self._connection.port}"
            message = f"the API server does not answer: {str(error)[:200] or type(error).__name__}"
            raise UnavailableError("kube.unavailable", message, where=where) from error

    def end(self) -> None:
        """Wake the thread wherever it waits, and let it go."""
        if self._socket is not None:
            with suppress(OSError):
                # The plain one: that of an SSL socket would take its state away from under the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        if self._response is not None:
            self._thread.submit(self._response.close)
        self._thread.submit(self._connection.close)
        self._thread.shutdown(wait=False)


@asynccontextmanager
async def _worker(connection: http.client.HTTPConnection) -> AsyncIterator[_Worker]:
    worker = _Worker(connection)
    try:
        await worker.connect()
        yield worker
    finally:
        worker.end()


async def _lines(worker: _Worker, response: http.client.HTTPResponse) -> AsyncIterator[bytes]:
    while line := await worker.run(lambda _: response.readline(LARGEST_LINE + 1)):
        if len(line) > LARGEST_LINE:
            raise MalformedError("kube.answer.size", f"expected events of at most {LARGEST_LINE >> 20} MiB")
        yield line


def _answer(response: http.client.HTTPResponse, body: bytes) -> Answer:
    value = response.getheader("Retry-After") or ""
    seconds = float(value) if value.isascii() and value.isdecimal() and len(value) <= _LONGEST_NUMBER else None
    return Answer(status=response.status, body=body, retry_after=seconds)
