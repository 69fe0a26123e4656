"""The smallest web server that Prometheus and the kubelet's probes need: GET, one request per connection, bounded.

Source: RFC 9112 (requests), Kubernetes docs, "Configure Liveness, Readiness and Startup Probes".
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

_LARGEST_HEAD = 8 * 1024
_MOST_CONNECTIONS = 32
_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a path answers."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b"ok\n"
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Awaitable[Page]]]


@asynccontextmanager
async def web_server(pages: Pages, *, host: str, port: int) -> AsyncIterator[int]:
    """Serve ``pages`` while the context lasts; gives the port, which the system chooses for 0.

    Raises:
        OSError: where the port is taken.
    """
    site = _Site(pages)
    server = await asyncio.start_server(site.serve, host, port, limit=_LARGEST_HEAD)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await site.close()


class _Site:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._working: set[asyncio.StreamWriter] = set()

    async def close(self) -> None:
        """Hang up on everybody, and wait until all have noticed."""
        for writer in self._open:
            writer.transport.abort()
        if tasks := [task for task in self._open.values() if task is not None]:
            await asyncio.wait(tasks, timeout=_SECONDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request, one answer; none for more connections than we serve at once."""
        if len(self._open) >= _MOST_CONNECTIONS and not self._make_room():
            writer.transport.abort()
            return
        self._open[writer] = asyncio.current_task()
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_SECONDS):
                    page = await self._page(reader, writer)
                    writer.write(_head(page) + page.body)
                    await writer.drain()
        finally:
            self._open.pop(writer, None)
            writer.close()

    def _make_room(self) -> bool:
        """Hang up on who keeps us waiting longest: silence must not keep the kubelet's probes out."""
        waiting = next((each for each in self._open if each not in self._working), None)
        if waiting is None:
            return False
        del self._open[waiting]
        waiting.transport.abort()
        return True

    async def _page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Page:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != len(("GET", "/", "HTTP/1.1")) or not words[2].startswith(b"HTTP/1."):
            return _refusal(HTTPStatus.BAD_REQUEST)
        if words[0] != b"GET":
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        page = self._pages.get(words[1].partition(b"?")[0].decode("latin-1"))
        if page is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        self._working.add(writer)
        try:
            return await page()
        finally:
            self._working.discard(writer)


def _refusal(status: HTTPStatus) -> Page:
    return Page(status=status, body=f"{status.phrase}\n".encode())


def _head(page: Page) -> bytes:
    return (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
