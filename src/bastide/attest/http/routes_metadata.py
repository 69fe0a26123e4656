"""What relying parties read: keys, issuer, baselines."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bastide.attest.http.call import admit, answer, call_of, kind_of
from bastide.attest.tenants import Role
from bastide.token.json_text import Json
from bastide.token.jwks import jwks

_CLAIMS: tuple[Json, ...] = (
    "is-debuggable",
    "sgx-mrsigner",
    "sgx-mrenclave",
    "product-id",
    "svn",
    "tee",
    "x-ms-attestation-type",
    "x-ms-policy-hash",
    "x-ms-runtime",
    "x-ms-sgx-is-debuggable",
    "x-ms-sgx-mrsigner",
    "x-ms-sgx-mrenclave",
    "x-ms-sgx-product-id",
    "x-ms-sgx-svn",
    "x-ms-sgx-ehd",
    "x-bastide-profile",
    "x-bastide-tcb-status",
)


async def _certs(request: Request) -> Response:
    return answer(jwks(call_of(request).desk.tenant.ring.published()))


async def _configuration(request: Request) -> Response:
    desk = call_of(request).desk
    issuer = desk.config.issuer
    return answer(
        {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/certs",
            "response_types_supported": ["token", "none"],
            "id_token_signing_alg_values_supported": [desk.config.keys.algorithm],
            "revocation_endpoint": f"{issuer}/revoke",
            "claims_supported": list(_CLAIMS),
        }
    )


async def _baselines(request: Request) -> Response:
    await admit(request, Role.READER)
    kind_of(request)
    desk = call_of(request).desk
    dates = {bundle.number: bundle.tcb_date for bundle in desk.bundles}
    return answer(
        {
            "tcbBaselines": [
                {
                    "tcbIdentifier": str(number),
                    "tcbEvaluationDataNumber": number,
                    "tcbReleaseDate": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "minimumPswLinuxVersion": "",
                    "minimumPswWindowsVersion": "",
                    "isSelectedTcb": number == desk.config.baseline,
                }
                for number, date in sorted(dates.items())
            ]
        }
    )


ROUTES = (
    Route("/certs", _certs, methods=["GET"]),
    Route("/.well-known/openid-configuration", _configuration, methods=["GET"]),
    Route("/tcbbaselines/{kind}", _baselines, methods=["GET"]),
)
