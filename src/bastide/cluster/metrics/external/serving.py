"""Serving the external metrics API: HTTPS whose authorities of client certificates may change under way."""

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bastide.cluster.metrics.external.app import ExternalMetrics
from bastide.cluster.metrics.external.callers import Believed
from bastide.web.serving import ServingLimits, serve_app
from bastide.web.tls import ServerTls

_LOG = logging.getLogger(__name__)
_LIMITS: Final = ServingLimits(connections=256, grace=2)


async def serve_external(
    app: ExternalMetrics,
    believed: Believed,
    files: tuple[Path, Path],
    sock: socket.socket,
    *,
    begun: Callable[[], None],
) -> None:
    """Serve until a signal ends it, or until cancelled; not before the cluster says whom to believe.

    When the cluster names other authorities, the server begins anew with them: connections made under the old ones
    end, whoever they are of.

    Args:
        app: what answers.
        believed: whom to believe.
        files: certificate and key.
        sock: where to listen.
        begun: called each time requests are answered.
    """
    await believed.changed.wait()
    while True:
        believed.changed.clear()
        tls = ServerTls(*files, clients=believed.now.authorities)
        told = await _serve_until(app, tls, sock.dup(), believed.changed, begun)
        if not told:
            return
        _LOG.info("the cluster names other authorities of request headers: serving anew")


async def _serve_until(
    app: ExternalMetrics, tls: ServerTls, sock: socket.socket, changed: asyncio.Event, begun: Callable[[], None]
) -> bool:
    """One server; whether it ended because ``changed`` was set."""
    with sock:
        await serve_app(app, tls, sock, begun=begun, stop=changed, limits=_LIMITS)
    return changed.is_set()
