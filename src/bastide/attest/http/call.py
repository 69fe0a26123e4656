"""One request on its way through the service."""

from dataclasses import dataclass

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from bastide.attest.bearer import Principal
from bastide.attest.doorkeeper import Doorkeeper
from bastide.attest.http.errors import JSON_TYPE, ApiError
from bastide.attest.http.wire import LARGEST_BODY
from bastide.attest.running import Desk
from bastide.attest.tenants import Kind, Role
from bastide.errors import UntrustedError
from bastide.token.json_text import Json
from bastide.web import asgi

SUCCESS_HEADERS = ((b"cache-control", b"no-store"), (b"content-type", JSON_TYPE.encode()))
"""Of every success, beside its length."""

encode = msgspec.json.Encoder().encode
"""A success's body."""

_SCOPE = "bastide.call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who is asked, under which id; ``path`` is what follows the tenant's prefix."""

    id: str
    desk: Desk
    path: str


def put_call(scope: dict[str, object], call: Call) -> None:
    """Remember the call in an ASGI scope."""
    scope[_SCOPE] = call


def call_of(request: Request) -> Call:
    """The call of a request."""
    call: Call = request.scope[_SCOPE]
    return call


def kind_of(request: Request) -> Kind:
    """The kind of evidence that the path names.

    Raises:
        ApiError: 400 ``InvalidParameter``.
    """
    name = request.path_params["kind"]
    try:
        return Kind(name)
    except ValueError:
        known = ", ".join(Kind)
        message = f"expected one of {known} as attestation type, seen {name[:40]!r}"
        raise ApiError(400, "InvalidParameter", message) from None


async def read_body(receive: Receive) -> bytes:
    """The body, at most as large as any call takes it. How long it may take is the connection's business.

    Raises:
        ApiError: 413 ``RequestTooLarge``.
        ClientDisconnect: there is nobody to answer any more.
    """
    try:
        return await asgi.read_body(receive, largest=LARGEST_BODY)
    except asgi.GoneError:
        raise ClientDisconnect from None
    except asgi.BodyError:
        message = f"expected a body of at most {LARGEST_BODY} bytes"
        raise ApiError(413, "RequestTooLarge", message) from None


async def body_of(request: Request) -> bytes:
    """The body of a request; see ``read_body``."""
    return await read_body(request.receive)


def media_type(request: Request) -> str:
    """The body's media type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def admit(request: Request, role: Role) -> Principal:
    """The administrator who asks, if they may: by bearer token, or without one by the certificate shown in TLS.

    Raises:
        ApiError: 401 ``Unauthorized`` with a challenge; 403 ``Forbidden``.
        UnavailableError: ``attest.issuer-keys.unavailable``.
    """
    call = call_of(request)
    try:
        who = await _who(request, call.desk.doorkeeper)
    except UntrustedError as error:
        message = f"Access to {call.path} requires a valid JWT bearer token: {error.message}"
        raise _unauthorized(call, message, error.code) from None
    if who is None:
        raise _unauthorized(call, f"Access to {call.path} requires a valid JWT bearer token", "")
    if role not in who.roles and Role.ADMIN not in who.roles:
        raise ApiError(403, "Forbidden", f"no rule gives {who.subject!r} the role {role} here")
    return who


async def _who(request: Request, door: Doorkeeper) -> Principal | None:
    """Who asks; None for somebody who shows nothing. A header wins: it is there on purpose."""
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise UntrustedError("attest.bearer.form", "there is more than one Authorization header")
    scheme, _, token = (given[0] if given else "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return await door.bearer(token.strip())
    if given:
        return None
    shown = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain")
    return door.certificate(shown[0].encode()) if shown else None


def answer(value: Json) -> Response:
    """A success."""
    return Response(encode(value), headers={"Cache-Control": "no-store"}, media_type=JSON_TYPE)


def _unauthorized(call: Call, message: str, error: str) -> ApiError:
    challenge = f'Bearer realm="{call.desk.config.issuer}"'
    if error:
        challenge += f', error="invalid_token", error_description="{error}"'
    inner: dict[str, Json] | None = {"code": error, "message": message} if error else None
    return ApiError(401, "Unauthorized", message, inner=inner, headers={"WWW-Authenticate": challenge})
