"""The ASGI application: from the bytes of a path to a tenant's routes, and every answer with its request id."""

import logging
import secrets
import time
from dataclasses import dataclass

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from bastide import __version__
from bastide.attest.http import routes_attest, routes_certificates, routes_metadata, routes_policy
from bastide.attest.http.call import Call, answer, put_call
from bastide.attest.http.errors import ApiError, no_such_path
from bastide.attest.http.metrics import CONTENT_TYPE, Metrics
from bastide.attest.http.openapi import document
from bastide.attest.http.paths import base_of, resolve
from bastide.attest.running import Service
from bastide.attest.tenants import DEFAULT_TENANT
from bastide.errors import BastideError, MalformedError
from bastide.web.readiness import Check, Readiness, SlowCheck

DATABASE_CHECK, COLLATERAL_CHECK = "database", "collateral"
"""What ``/readyz`` asks."""

SERVICE_VERSION = f"bastide-{__version__}"
_REQUEST_ID_BYTES = 16
_log = logging.getLogger("bastide.attest")


@dataclass(slots=True)
class _Track:
    """What becomes of one request, for its metrics and its log line."""

    id: str
    began: float
    tenant: str = ""
    call: str = "none"
    status: int = 0


class App:
    """The application of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._base = base_of(service.desks[DEFAULT_TENANT].config.issuer)
        self._others = frozenset(service.desks) - {DEFAULT_TENANT}
        self.metrics = Metrics(service)
        checks: dict[str, Check] = {
            DATABASE_CHECK: SlowCheck(service.probe_store),
            COLLATERAL_CHECK: self._lacks_collateral,
        }
        self._readiness = Readiness(checks)
        self._openapi = msgspec.json.encode(document(service.desks[DEFAULT_TENANT].config.issuer, SERVICE_VERSION))
        self._router = Router(
            routes=[
                *routes_attest.ROUTES,
                *routes_policy.ROUTES,
                *routes_certificates.ROUTES,
                *routes_metadata.ROUTES,
            ],
            redirect_slashes=False,
            default=_nothing,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        track = _Track(id=secrets.token_hex(_REQUEST_ID_BYTES), began=time.perf_counter())
        framed = _framed(send, track)
        try:
            await self._route(scope, receive, framed, track)
        except ClientDisconnect:
            return
        except Exception as error:  # nothing may leave without an answer
            if track.status:
                raise
            await self._told(error, track).response(track.id)(scope, receive, framed)
        finally:
            self._done(scope, track)

    async def _route(self, scope: Scope, receive: Receive, send: Send, track: _Track) -> None:
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        own = await self._operations(raw_path, scope.get("query_string", b""))
        if own is not None:
            track.call = "operations"
            await own(scope, receive, send)
            return
        tenant, path = resolve(raw_path, base=self._base, tenants=self._others)
        track.tenant, track.call = tenant, path.split("/")[1].partition(":")[0]
        desk = self._service.desks[tenant]
        attests = routes_attest.is_attest(scope["method"], path)
        wait = desk.wait((scope.get("client") or ("", 0))[0], time.monotonic(), attests=attests)
        if wait:
            message = f"too many requests; try again in {wait:.1f} s"
            raise ApiError(429, "TooManyRequests", message, headers={"Retry-After": str(int(wait) + 1)})
        call = Call(id=track.id, desk=desk, path=path)
        if attests:
            await routes_attest.attest(call, receive, send)
            return
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": "", "app": self}
        put_call(inner, call)
        await self._router(inner, receive, send)

    async def _operations(self, path: bytes, query: bytes) -> Response | None:
        """Answers that belong to no tenant."""
        match path.split(b"/"):
            case [b"", b"healthz"]:
                return answer({"status": "ok"})
            case [b"", b"readyz", *_]:
                page = await self._readiness.page(path.decode("latin-1"), query.decode("latin-1"))
                return Response(
                    page.body, page.status, {"Cache-Control": "no-store", "Content-Type": page.content_type}
                )
            case [b"", b"metrics"]:
                return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
            case [b"", b"openapi.json"]:
                return Response(self._openapi, media_type="application/json")
        return None

    async def _lacks_collateral(self) -> str:
        return self._service.lacks_collateral(self._service.clock())

    def _told(self, error: Exception, track: _Track) -> ApiError:
        """The answer for whatever went wrong."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, HTTPException):
            return ApiError(error.status_code, "MethodNotAllowed", error.detail, headers=error.headers)
        if isinstance(error, MalformedError):
            self.metrics.malformed(track.tenant, error.code)
        if isinstance(error, BastideError):
            told = ApiError.of(error)
        else:
            told = ApiError(
                500, "InternalError", "the service is at fault; its operator finds why under the request id"
            )
        if told.status >= 500:
            _log.error("request %s failed", track.id, exc_info=error)
        return told

    def _done(self, scope: Scope, track: _Track) -> None:
        seconds = time.perf_counter() - track.began
        known = track.call if track.call in _CALLS else "none"
        self.metrics.answered(track.tenant, known, track.status, seconds)
        if _log.isEnabledFor(logging.INFO):
            line = {
                "request": track.id,
                "tenant": track.tenant,
                "call": known,
                "method": scope["method"],
                "status": track.status,
                "ms": round(seconds * 1000, 1),
            }
            _log.info("%s", msgspec.json.encode(line).decode())


_CALLS = frozenset({"attest", "policies", "certificates", "certs", ".well-known", "tcbbaselines", "operations"})


_EVERY_ANSWER = (
    (b"x-ms-maa-service-version", SERVICE_VERSION.encode()),
    (b"x-content-type-options", b"nosniff"),
)


def _framed(send: Send, track: _Track) -> Send:
    """``send`` that puts the headers of every answer."""

    async def framed(message: Message) -> None:
        if message["type"] == "http.response.start":
            track.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-ms-request-id", track.id.encode()),
                *_EVERY_ANSWER,
            ]
        await send(message)

    return framed


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    raise no_such_path()
