"""Bodies on the wire, and what they mean.

Base64 is taken in either alphabet, with or without padding: clients differ. JSON is read strictly (no key twice).

Source: reference attestation-service.md section 1 (bodies), section 7 (what the clients really send).
"""

from typing import TypeVar

import msgspec

from bastide.attest.service import AttestRequest
from bastide.dcap.containers import quote_in_report
from bastide.errors import MalformedError
from bastide.token.json_text import read_json

LARGEST_BODY = 512 * 1024
_LONGEST_NONCE = 1024
_DATA_TYPES = ("binary", "json")
_Body = TypeVar("_Body", bound="AttestSgxBody | AttestOpenEnclaveBody")


class DataBody(msgspec.Struct, frozen=True):
    """Runtime or init-time data."""

    data: str | None = None
    dataType: str | None = None  # noqa: N815 - the wire's name


class AttestSgxBody(msgspec.Struct, frozen=True):
    """POST /attest/SgxEnclave."""

    quote: str
    runtimeData: DataBody | None = None  # noqa: N815
    initTimeData: DataBody | None = None  # noqa: N815
    draftPolicyForAttestation: str | None = None  # noqa: N815
    nonce: str | None = None


class AttestOpenEnclaveBody(msgspec.Struct, frozen=True):
    """POST /attest/OpenEnclave."""

    report: str
    runtimeData: DataBody | None = None  # noqa: N815
    initTimeData: DataBody | None = None  # noqa: N815
    draftPolicyForAttestation: str | None = None  # noqa: N815
    nonce: str | None = None


def read_sgx(raw: bytes) -> tuple[AttestRequest, str | None]:
    """Request and draft policy.

    Raises:
        MalformedError: ``wire.body``, ``wire.base64``, ``wire.data``, ``wire.nonce``, and those of ``read_json``.
    """
    body = _convert(raw, AttestSgxBody)
    return _request(body, decode(body.quote, "quote"), None), body.draftPolicyForAttestation


def read_open_enclave(raw: bytes) -> tuple[AttestRequest, str | None]:
    """The same for an Open Enclave report.

    Raises:
        MalformedError: as ``read_sgx``, and ``quote.container.open-enclave``.
    """
    body = _convert(raw, AttestOpenEnclaveBody)
    report = decode(body.report, "report")
    return _request(body, quote_in_report(report), report), body.draftPolicyForAttestation


def read_jws(raw: bytes, media_type: str) -> str:
    """The JWS of an administrative call: plain text, a JSON string, or a JSON object with one known member.

    Raises:
        MalformedError: ``wire.body``.
    """
    if media_type != "application/json" and not raw.startswith((b'"', b"{")):
        try:
            return raw.decode("ascii").strip()
        except UnicodeDecodeError:
            raise MalformedError("wire.body", "expected a JWS, which is ASCII") from None
    value = read_json(raw, largest=LARGEST_BODY)
    if isinstance(value, dict):
        members = ("policyCertificateToAdd", "policyCertificateToRemove")
        value = next((value[name] for name in members if name in value), None)
    if not isinstance(value, str):
        raise MalformedError("wire.body", "expected a JWS as a JSON string")
    return value


def decode(text: str, where: str) -> bytes:
    """Base64 in either alphabet, padded or not.

    Raises:
        MalformedError: ``wire.base64``.
    """
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        # As strict as binascii's strict mode on padded text, and four times as fast: quotes are long.
        return msgspec.convert(plain + "=" * (-len(plain) % 4), bytes)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise MalformedError("wire.base64", "expected base64 or base64url", where=where) from None


def _convert(raw: bytes, kind: type[_Body]) -> _Body:
    """The body, read strictly; the usual one quickly.

    msgspec takes a key twice. Each key has a colon behind it, so where there are no more colons than members were read,
    no key came twice, nor one that nobody knows. Whatever else there is, ``read_json`` decides.
    """
    try:
        quick = msgspec.json.decode(raw, type=kind)
        if len(raw) <= LARGEST_BODY and raw.count(b":") == _members(quick):
            return quick
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.convert(read_json(raw, largest=LARGEST_BODY), kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for half of a surrogate pair
        raise MalformedError("wire.body", str(error)) from None


def _members(value: msgspec.Struct) -> int:
    """How many members were read, those within others too."""
    read = [one for one in msgspec.structs.astuple(value) if one is not None]
    return len(read) + sum(_members(one) for one in read if isinstance(one, msgspec.Struct))


def _request(body: AttestSgxBody | AttestOpenEnclaveBody, quote: bytes, envelope: bytes | None) -> AttestRequest:
    runtime, runtime_is_json = _data(body.runtimeData, "runtimeData")
    init_time, init_time_is_json = _data(body.initTimeData, "initTimeData")
    if body.nonce is not None and len(body.nonce) > _LONGEST_NONCE:
        message = f"expected at most {_LONGEST_NONCE} characters, seen {len(body.nonce)}"
        raise MalformedError("wire.nonce", message, where="nonce")
    return AttestRequest(
        quote=quote,
        runtime_data=runtime,
        runtime_is_json=runtime_is_json,
        init_time_data=init_time,
        init_time_is_json=init_time_is_json,
        nonce=body.nonce,
        envelope=envelope,
    )


def _data(body: DataBody | None, where: str) -> tuple[bytes | None, bool]:
    if body is None:
        return None, False
    if body.data is None:
        raise MalformedError(
            "wire.data",
            "expected data, seen only their type",
            where=where,
            hint="azure-security-attestation 1.0.0 for Python leaves out what its inittime_json is given:"
            " send initTimeData with another client",
        )
    kind = (body.dataType or "Binary").lower()
    if kind not in _DATA_TYPES:
        raise MalformedError("wire.data", f"expected dataType Binary or JSON, seen {body.dataType!r}", where=where)
    return decode(body.data, where), kind == "json"
