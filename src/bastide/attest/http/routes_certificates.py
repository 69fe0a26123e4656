"""Policy certificates: list, add, remove. For administrators."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bastide.attest.http.call import admit, answer, body_of, call_of, media_type
from bastide.attest.http.wire import read_jws
from bastide.attest.tenants import Role


async def _get(request: Request) -> Response:
    await admit(request, Role.READER)
    return answer({"token": await call_of(request).desk.administration.get_certificates()})


async def _add(request: Request) -> Response:
    return await _change(request, add=True)


async def _remove(request: Request) -> Response:
    return await _change(request, add=False)


async def _change(request: Request, *, add: bool) -> Response:
    who = await admit(request, Role.ADMIN)
    call = call_of(request)
    jws = read_jws(await body_of(request), media_type(request))
    token = await call.desk.administration.change_certificate(jws, add=add, request_id=call.id, who=who.name)
    return answer({"token": token})


ROUTES = (
    Route("/certificates", _get, methods=["GET"]),
    Route("/certificates:add", _add, methods=["POST"]),
    Route("/certificates:remove", _remove, methods=["POST"]),
)
