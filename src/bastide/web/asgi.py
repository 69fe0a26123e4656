"""What raw ASGI applications of ours do alike: read a whole body within bounds, send a whole answer.

Source: ASGI 3.0 "HTTP & WebSocket".
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


_READ_ON = 2
"""How many times as much as is taken is read before a body is refused, and thrown away: a client that is still sending
when the connection ends never hears why."""


class BodyError(Exception):
    """A body that is not taken: the status to answer with, and why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class GoneError(Exception):
    """The client has left; nobody waits for an answer."""


async def read_body(receive: Receive, *, largest: int, seconds: float | None = None) -> bytes:
    """The whole body.

    Args:
        receive: of the application.
        largest: bytes.
        seconds: for all of it; None where somebody else looks after that.

    Raises:
        BodyError: too large, too slow.
        GoneError: the client left.
    """
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds):
            while more and size <= _READ_ON * largest:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                part: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(part)
                if size <= largest:
                    parts.append(part)
                else:
                    parts.clear()
    except TimeoutError:
        raise BodyError(HTTPStatus.REQUEST_TIMEOUT, f"expected the whole body within {seconds} s") from None
    if size > largest:
        raise BodyError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {largest} bytes")
    return b"".join(parts)


async def send_whole(send: Send, status: int, body: bytes, content_type: str) -> None:
    """Answer, and have nobody keep it."""
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
