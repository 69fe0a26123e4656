"""Policies: read, set, reset. For administrators."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bastide.attest.http.call import admit, answer, body_of, call_of, kind_of, media_type
from bastide.attest.http.wire import read_jws
from bastide.attest.tenants import Role


async def _get(request: Request) -> Response:
    await admit(request, Role.READER)
    return answer({"token": await call_of(request).desk.administration.get_policy(kind_of(request))})


async def _set(request: Request) -> Response:
    who = await admit(request, Role.ADMIN)
    kind, call = kind_of(request), call_of(request)
    jws = read_jws(await body_of(request), media_type(request))
    token = await call.desk.administration.set_policy(kind, jws, request_id=call.id, who=who.name)
    return answer({"token": token})


async def _reset(request: Request) -> Response:
    who = await admit(request, Role.ADMIN)
    kind, call = kind_of(request), call_of(request)
    jws = read_jws(await body_of(request), media_type(request))
    token = await call.desk.administration.reset_policy(kind, jws, request_id=call.id, who=who.name)
    return answer({"token": token})


ROUTES = (
    Route("/policies/{kind}:reset", _reset, methods=["POST"]),
    Route("/policies/{kind}", _get, methods=["GET"]),
    Route("/policies/{kind}", _set, methods=["PUT"]),
)
