"""HTTP connections that do not wait for ever, and that tell who is at the other end.

uvicorn waits without limit for a request that has begun, and for the first one of a connection: whoever sends nothing,
or a byte a minute, holds a connection and with it one of those that are allowed at once. Nor does it hand on the
certificate that a client has shown.

Source: ASGI TLS extension 0.2, ``client_cert_chain``.
"""

import asyncio
import ssl

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bastide.web.clients import Crowd, client_name


class PatientProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        config: of the server.
        state: of the server.
        patience: seconds that a request may take to arrive, from the connection or its first byte to its last.
        farewell: seconds at the server's end in which requests that were on their way may still arrive.
        crowd: all connections of the server.
    """

    def __init__(self, config: Config, state: ServerState, *, patience: float, farewell: float, crowd: Crowd) -> None:
        super().__init__(config, state, {})
        self._patience, self._farewell = patience, farewell
        self._crowd, self._name = crowd, ""
        self._arriving, self._ending = True, False
        self._timer: asyncio.TimerHandle | None = None
        self._client_certificate: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """The handshake is over: the first request is awaited."""
        super().connection_made(transport)
        self._client_certificate = _shown(transport)
        self._name = client_name(self.client[0]) if self.client else ""
        if self._crowd.come(self, self._name):
            self._start_timer()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_timer()
        self._crowd.go(self, self._name)
        super().connection_lost(exc)

    def leave(self) -> bool:
        """See ``Guest``."""
        if not self._waits():
            return False
        self.transport.abort()
        return True

    def data_received(self, data: bytes) -> None:
        """Part of a request, a whole one, or several."""
        super().data_received(data)
        # uvicorn has stopped its keep-alive timer at the first byte, even if no request has begun with it.
        idle = self.cycle is not None and self.cycle.response_complete
        if self._timer is None and (self._arriving or idle) and not self.transport.is_closing():
            self._start_timer()

    def on_message_begin(self) -> None:
        """The parser's call."""
        self._arriving = True
        super().on_message_begin()
        if self._client_certificate is not None:
            self.scope["extensions"] = {"tls": {"client_cert_chain": (self._client_certificate,)}}

    def on_message_complete(self) -> None:
        """The parser's call."""
        self._arriving = False
        self._stop_timer()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """The parser's call."""
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """The server ends: requests under way are answered, and those that were sent before a client could know."""
        self._ending = True
        if self.cycle is not None:
            self.cycle.keep_alive = False
        if self._waits():
            self.loop.call_later(self._farewell, self._part)

    def _part(self) -> None:
        if self._waits():
            self.transport.close()

    def _waits(self) -> bool:
        """Whether there is no request that has arrived and is not answered."""
        return self._arriving or self.cycle is None or bool(self.cycle.response_complete)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._patience, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        self._timer = None
        self.transport.close()


def _shown(transport: asyncio.Transport) -> str | None:
    """The client's certificate (PEM), if it has shown one; TLS has judged it by then."""
    tls = transport.get_extra_info("ssl_object")
    shown = None if tls is None else tls.getpeercert(binary_form=True)
    return None if shown is None else ssl.DER_cert_to_PEM_cert(shown)
