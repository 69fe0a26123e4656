"""Attestation: open to everybody, within limits."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send

from bastide.attest.http.call import SUCCESS_HEADERS, Call, encode, read_body
from bastide.attest.http.errors import ApiError
from bastide.attest.http.wire import read_open_enclave, read_sgx
from bastide.attest.records import inner_error
from bastide.attest.service import AttestRequest, Refused
from bastide.attest.tenants import Kind

SMALL_BODY = 32 * 1024
"""Most bytes of a body that is read on the event loop; an ordinary quote makes 8 KiB."""

_PREFIX = "/attest/"


def is_attest(method: str, path: str) -> bool:
    """Whether a request is for ``attest``."""
    return method == "POST" and path.startswith(_PREFIX) and path[len(_PREFIX) :] in (Kind.SGX, Kind.OPEN_ENCLAVE)


async def attest(call: Call, receive: Receive, send: Send) -> None:
    """Answer one request for a token, without a router in between: nearly all requests are of this kind.

    Raises:
        ApiError: 400 when evidence or policy refuses, 413 ``RequestTooLarge``.
        MalformedError: what ``read_sgx`` or ``Tenant.attest`` cannot read.
        UnavailableError: see ``Tenant.attest``.
    """
    kind = Kind(call.path[len(_PREFIX) :])
    request, draft = await _read(kind, await read_body(receive))
    judged = await call.desk.tenant.attest(kind, request, draft=draft, request_id=call.id)
    if isinstance(judged.answer, Refused):
        refused = judged.answer
        raise ApiError(400, refused.code, refused.message, inner=inner_error(judged, refused, call.id))
    body = encode({"token": judged.answer.token})
    headers = [*SUCCESS_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(kind: Kind, raw: bytes) -> tuple[AttestRequest, str | None]:
    read: Callable[[bytes], tuple[AttestRequest, str | None]] = read_sgx if kind is Kind.SGX else read_open_enclave
    if len(raw) <= SMALL_BODY:
        return read(raw)
    return await asyncio.get_running_loop().run_in_executor(None, read, raw)


async def _other(request: Request) -> Response:
    """Whatever kind ``is_attest`` did not take."""
    name = str(request.path_params["kind"])[:40]
    raise ApiError(
        400,
        "InvalidOperation",
        f"this service attests {Kind.SGX} and {Kind.OPEN_ENCLAVE}; it does not offer {name!r}",
        inner={"code": "attest.kind.unsupported", "message": "there is no verifier for this kind of evidence here"},
    )


ROUTES = (Route("/attest/{kind}", _other, methods=["POST"]),)
