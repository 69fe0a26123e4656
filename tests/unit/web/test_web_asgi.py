import asyncio
from http import HTTPStatus

import pytest

from bastide.web.asgi import BodyError, GoneError, read_body

LARGEST = 100


class _Sent:
    """A body in parts, and how many of them were asked for."""

    def __init__(self, *parts: bytes, ends: bool = True) -> None:
        self._parts = parts
        self._ends = ends
        self.asked = 0

    async def receive(self) -> dict[str, object]:
        if self.asked == len(self._parts):
            if self._ends:
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
        self.asked += 1
        more = not self._ends or self.asked < len(self._parts)
        return {"type": "http.request", "body": self._parts[self.asked - 1], "more_body": more}


def _read(sent: _Sent, seconds: float = 20.0) -> bytes:
    return asyncio.run(read_body(sent.receive, largest=LARGEST, seconds=seconds))


def test_a_body_comes_whole() -> None:
    assert _read(_Sent(b"a" * 60, b"b" * 40)) == b"a" * 60 + b"b" * 40


def test_a_body_that_is_a_little_too_large_is_heard_out_so_that_its_sender_hears_why() -> None:
    sent = _Sent(b"a" * 60, b"b" * 60, b"c" * 60)
    with pytest.raises(BodyError) as caught:
        _read(sent)
    assert caught.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert sent.asked == 3


def test_a_body_without_end_is_not() -> None:
    sent = _Sent(*[b"a" * 60] * 1000)
    with pytest.raises(BodyError) as caught:
        _read(sent)
    assert caught.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert sent.asked == 4


def test_a_body_that_does_not_end_in_time_is_not_waited_for() -> None:
    with pytest.raises(BodyError) as caught:
        _read(_Sent(b"a", ends=False), seconds=0.05)
    assert caught.value.status == HTTPStatus.REQUEST_TIMEOUT


def test_nobody_answers_a_client_that_left() -> None:
    with pytest.raises(GoneError):
        _read(_Sent())
