"""Errors on the wire: ``{"error": {"code", "message", "innererror"}}`` with Azure Attestation's codes.

A refusal is never a 5xx: clients would repeat it. Only what may go better next time is 429 or 503, with Retry-After.

Source: reference attestation-service.md section 1 ("Errors").
"""

import json
from collections.abc import Mapping

from starlette.responses import Response

from bastide.errors import (
    BastideError,
    ConflictError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UntrustedError,
)
from bastide.token.json_text import Json

JSON_TYPE = "application/json; charset=utf-8"
_STATUS: dict[type[BastideError], int] = {
    MalformedError: 400,
    UntrustedError: 400,
    PolicyError: 400,
    ConflictError: 409,
    UnavailableError: 503,
}
_RETRY_SECONDS = "2"

_CODES = (
    ("policy.jws.", "InvalidOperation"),
    ("policy.evaluation.", "PolicyEvaluationError"),
    ("policy.baseline", "PolicyEvaluationError"),
    ("policy.", "PolicyParsingError"),
    ("attest.mode.shared", "Forbidden"),
    ("attest.mode.", "InvalidOperation"),
    ("attest.reset.", "InvalidOperation"),
    ("attest.issuer-keys.", "ServiceUnavailable"),
    ("attest.certificates.", "InvalidOperation"),
    ("quote.", "InvalidParameter"),
    ("collateral.", "ServiceUnavailable"),
    ("store.", "ServiceUnavailable"),
    ("audit.", "ServiceUnavailable"),
)
"""Azure Attestation's code for each family of ours; the first that fits. Anything else is InvalidParameter."""


class ApiError(Exception):
    """An answer that is no success.

    Args:
        status: of HTTP.
        code: Azure Attestation's.
        message: one sentence.
        inner: ``innererror``.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        inner: Mapping[str, Json] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: BastideError) -> "ApiError":
        """The answer that tells an error of ours; what is not meant for clients becomes a plain 500."""
        status = next((status for family, status in _STATUS.items() if isinstance(error, family)), 500)
        if status == 500:
            return cls(500, "InternalError", "the service is at fault; its operator finds why under the request id")
        if error.code == "attest.mode.shared":
            status = 403
        code = next((code for prefix, code in _CODES if error.code.startswith(prefix)), "InvalidParameter")
        inner: dict[str, Json] = {"code": error.code, "message": error.message}
        inner |= {name: value for name, value in (("hint", error.hint), ("where", error.where)) if value}
        headers = {"Retry-After": _RETRY_SECONDS} if status == 503 else {}
        return cls(status, code, str(error), inner=inner, headers=headers)

    def response(self, request_id: str) -> Response:
        """The HTTP answer."""
        told: dict[str, Json] = {"code": self.code, "message": self.message}
        told["innererror"] = {**(self.inner or {"code": self.code, "message": self.message}), "requestId": request_id}
        return Response(
            json.dumps({"error": told}),
            status_code=self.status,
            headers={"x-ms-error-code": self.code, "Cache-Control": "no-store", **self.headers},
            media_type=JSON_TYPE,
        )


def no_such_path() -> ApiError:
    """404."""
    return ApiError(404, "NotFound", "there is nothing at this path")
