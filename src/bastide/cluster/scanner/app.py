"""The scanner's ASGI application: ``POST /v1/resolve`` for those who may ask, and the pages of every server of ours.

Source: ASGI 3.0 "HTTP & WebSocket"; Kubernetes docs, "Configure Liveness, Readiness and Startup Probes".
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Final

from bastide.cluster.prometheus import CONTENT_TYPE
from bastide.cluster.scanner.callers import Callers
from bastide.cluster.scanner.metrics import Metrics
from bastide.cluster.scanner.resolve import LARGEST_QUESTION, Question, Resolver
from bastide.errors import BastideError, MalformedError, PolicyError, UnavailableError
from bastide.web.asgi import BodyError, GoneError, Receive, Scope, Send, read_body, send_whole

RESOLVE_PATH: Final = "/v1/resolve"
_SECONDS: Final = 5.0
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_log = logging.getLogger("bastide.scanner")


class App:
    """The application.

    Args:
        callers: who may ask.
        resolver: answers.
        metrics: counts.
        fault: why it does not work at present; empty while it does.
    """

    def __init__(self, callers: Callers, resolver: Resolver, metrics: Metrics, *, fault: Callable[[], str]) -> None:
        self._callers = callers
        self._resolver = resolver
        self._metrics = metrics
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        match scope["method"], scope["path"]:
            case "POST", "/v1/resolve":
                status, tree = await self._resolve(scope, receive)
                await send_whole(send, status, json.dumps(tree).encode(), _JSON)
            case _, "/v1/resolve":
                await send_whole(send, 405, b'{"error":{"code":"scanner.method","message":"expected POST"}}', _JSON)
            case _, "/healthz":
                await send_whole(send, 200, b"ok\n", "text/plain")
            case _, "/readyz":
                fault = self._fault()
                await send_whole(
                    send, 503 if fault else 200, (fault or "ok").encode() + b"\n", "text/plain; charset=utf-8"
                )
            case _, "/metrics":
                await send_whole(send, 200, self._metrics.text(), CONTENT_TYPE)
            case _:
                await send_whole(send, 404, b'{"error":{"code":"scanner.path","message":"no such path"}}', _JSON)

    async def _resolve(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, object]]:
        try:
            async with asyncio.timeout(_SECONDS):
                await self._callers.check(_header(scope, b"authorization"))
                question = Question.parse(await _body(receive))
                return 200, await self._resolver.answer(question)
        except TimeoutError:
            return 503, _told("scanner.slow", "no answer in time")
        except BastideError as error:
            _log.info("%s", error)
            return _status(error), _told(error.code, str(error))
        except Exception:  # noqa: BLE001 - nothing may leave without an answer
            _log.exception("a fault while answering")
            return 500, _told("scanner.fault", "a fault of the scanner; its log tells more")


def _status(error: BastideError) -> int:
    match error:
        case PolicyError():
            return 401 if error.code == "scanner.caller.token" else 403
        case MalformedError():
            return 400
        case UnavailableError():
            return 503
    return 500


def _told(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message[:500]}}


def _header(scope: Scope, name: bytes) -> str:
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


async def _body(receive: Receive) -> bytes:
    try:
        return await read_body(receive, largest=LARGEST_QUESTION, seconds=_SECONDS)
    except GoneError:
        raise MalformedError("scanner.question", "the question ends early") from None
    except BodyError as error:
        raise MalformedError("scanner.question", str(error)) from None
