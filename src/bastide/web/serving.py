"""One ASGI application over HTTPS with uvicorn: bounded, its certificate loaded again as it changes, a graceful end.

Every server of ours runs through here, so that limits and signals are the same everywhere.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from bastide.errors import BastideError, ConfigError
from bastide.web.clients import Crowd
from bastide.web.patience import PatientProtocol
from bastide.web.tls import ServerTls

Asgi = Callable[..., Any]
"""An ASGI 3 application: ``await app(scope, receive, send)``."""

_BACKLOG = 2048
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLimits:
    """Bounds of one server; times in seconds.

    Attributes:
        connections: open at once; for one more, that client gives up one that waits who has most.
        keep_alive: how long an idle connection is kept.
        grace: how long requests under way may take at the end.
        tls_interval: between two looks at the certificate's files.
        handshake: how long a TLS handshake may take.
        request: how long a request may take to arrive, from the connection or its first byte to its last.
        goodbye: how long a client may take to confirm the end of its TLS connection before it is cut.
        farewell: how long, at the end, requests may still arrive on connections that are open: a client that keeps one
            sends the next before it can know that there is an end. Each answer is then the last of its connection.
    """

    connections: int = 2048
    keep_alive: int = 60
    grace: int = 10
    tls_interval: float = 2.0
    handshake: float = 10.0
    request: float = 20.0
    goodbye: float = 1.0
    farewell: float = 0.5


_LIMITS = ServingLimits()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, IPv4 or IPv6 as ``host`` is; port 0 for any free one.

    Raises:
        ConfigError: ``web.listen``.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError("web.listen", f"cannot listen: {error.strerror}", where=f"{host}:{port}") from error


async def serve_app(
    app: Asgi,
    tls: ServerTls,
    sock: socket.socket,
    *,
    begun: Callable[[], None],
    stop: asyncio.Event | None = None,
    limits: ServingLimits = _LIMITS,
) -> None:
    """Serve until SIGINT, SIGTERM, or until ``stop`` is set.

    Args:
        app: what answers.
        tls: certificate and key.
        sock: where to listen, see ``listen``; the caller closes it.
        begun: called once, when requests are answered.
        stop: ends the server gracefully.
        limits: bounds.
    """
    server = _Server(_config(app, tls, limits), limits, begun)
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(_watch(tls, limits.tls_interval))]
        if stop is not None:
            beside.append(group.create_task(_stop(server, stop)))
        await server.serve(sockets=[sock])
        for task in beside:
            task.cancel()


def _config(app: Asgi, tls: ServerTls, limits: ServingLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=limits.grace,
        timeout_keep_alive=limits.keep_alive,
        ssl_context_factory=lambda _config, _default: tls.context,
    )


class _Server(uvicorn.Server):
    """uvicorn's server with TLS limits and patience of our own, that tells when it has begun, and ends by our signal
    handlers: its own would raise the signal again before stores are closed."""

    def __init__(self, config: uvicorn.Config, limits: ServingLimits, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._limits = limits
        self._begun = begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, in uvicorn's place: it would leave handshakes 60 seconds and goodbyes 30. Then tell."""
        loop, limits = asyncio.get_running_loop(), self._limits
        crowd = Crowd(limits.connections)
        self.servers = [
            await loop.create_server(
                lambda: PatientProtocol(
                    self.config, self.server_state, patience=limits.request, farewell=limits.farewell, crowd=crowd
                ),
                sock=sock,
                ssl=self.config.ssl,
                backlog=self.config.backlog,
                ssl_handshake_timeout=limits.handshake,
                ssl_shutdown_timeout=limits.goodbye,
            )
            for sock in sockets or ()
        ]
        self.started = True
        self._begun()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ask for a graceful end at SIGINT and SIGTERM, for a quick one at the second."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        for one in handled:
            loop.add_signal_handler(one, self.handle_exit, one, None)
        try:
            yield
        finally:
            for one in handled:
                loop.remove_signal_handler(one)


async def _stop(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


async def _watch(tls: ServerTls, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            if tls.refresh():
                _log.info("TLS certificate loaded again")
        except BastideError as error:
            _log.error("%s", error)
