"""Attestation: open to everybody, within limits."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bastide.attest.http.call import answer, body_of, call_of
from bastide.attest.http.errors import ApiError
from bastide.attest.http.wire import read_open_enclave, read_sgx
from bastide.attest.records import inner_error
from bastide.attest.service import AttestRequest, Refused
from bastide.attest.tenant import evidence_request
from bastide.attest.tenants import Kind


async def _sgx(request: Request) -> Response:
    return await _attest(request, Kind.SGX, *read_sgx(await body_of(request)))


async def _open_enclave(request: Request) -> Response:
    return await _attest(request, Kind.OPEN_ENCLAVE, *read_open_enclave(await body_of(request)))


async def _other(request: Request) -> Response:
    name = str(request.path_params["kind"])[:40]
    raise ApiError(
        400,
        "InvalidOperation",
        f"this service attests {Kind.SGX} and {Kind.OPEN_ENCLAVE}; it does not offer {name!r}",
        inner={"code": "attest.kind.unsupported", "message": "there is no verifier for this kind of evidence here"},
    )


async def _attest(request: Request, kind: Kind, evidence: bytes, sent: AttestRequest, draft: str | None) -> Response:
    call = call_of(request)
    judged = await call.desk.tenant.attest(
        kind, evidence_request(kind, evidence, sent), draft=draft, request_id=call.id
    )
    if isinstance(judged.answer, Refused):
        refused = judged.answer
        raise ApiError(400, refused.code, refused.message, inner=inner_error(judged, refused, call.id))
    return answer({"token": judged.answer.token})


ROUTES = (
    Route("/attest/SgxEnclave", _sgx, methods=["POST"]),
    Route("/attest/OpenEnclave", _open_enclave, methods=["POST"]),
    Route("/attest/{kind}", _other, methods=["POST"]),
)
