"""The OpenAPI document of the service, made from the wire's own structs."""

from collections.abc import Mapping

import msgspec

from bastide.attest.http.wire import AttestOpenEnclaveBody, AttestSgxBody
from bastide.attest.tenants import Kind
from bastide.token.json_text import Json

_Node = dict[str, Json]
_OBJECT: _Node = {"type": "object"}
_TEXT: _Node = {"type": "string"}


def document(issuer: str, version: str) -> _Node:
    """The document for the tenant at ``issuer``; paths of other tenants are the same below their own URLs."""
    _, components = msgspec.json.schema_components(
        (AttestSgxBody, AttestOpenEnclaveBody), ref_template="#/components/schemas/{name}"
    )
    schemas: _Node = {**components, "Token": _token(), "Error": _error(), "KeySet": _key_set()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bastide attestation service",
            "version": version,
            "description": "The wire of Azure Attestation, with an explanation for every refusal.",
        },
        "servers": [{"url": issuer}],
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def _paths() -> _Node:
    jws: _Node = {"text/plain": {"schema": _TEXT}}
    quoted: _Node = {"application/json": {"schema": _TEXT}}
    kind: list[Json] = [_kind()]
    return {
        "/attest/SgxEnclave": {"post": _call("Attest an SGX quote", body=_json_body("AttestSgxBody"))},
        "/attest/OpenEnclave": {
            "post": _call("Attest an Open Enclave report", body=_json_body("AttestOpenEnclaveBody"))
        },
        "/attest/Tpm": {
            "post": _call("Not offered: always refused", body={"application/json": {"schema": _OBJECT}}),
        },
        "/policies/{kind}": {
            "get": _call("The policy in force", parameters=kind, admin=True),
            "put": _call("Set a policy", parameters=kind, body=jws, admin=True),
        },
        "/policies/{kind}:reset": {"post": _call("Return to the default", parameters=kind, body=jws, admin=True)},
        "/certificates": {"get": _call("Certificates that may sign policies", admin=True)},
        "/certificates:add": {"post": _call("Register one", body=quoted, admin=True)},
        "/certificates:remove": {"post": _call("Take one off", body=quoted, admin=True)},
        "/certs": {"get": _call("Keys that sign tokens", schema={"$ref": "#/components/schemas/KeySet"})},
        "/.well-known/openid-configuration": {"get": _call("The issuer", schema=_OBJECT)},
        "/tcbbaselines/{kind}": {
            "get": _call("Collateral numbers at hand", parameters=kind, schema=_OBJECT, admin=True)
        },
    }


def _call(
    summary: str,
    *,
    body: Mapping[str, Json] | None = None,
    parameters: list[Json] | None = None,
    schema: _Node | None = None,
    admin: bool = False,
) -> _Node:
    answer: Json = schema or {"$ref": "#/components/schemas/Token"}
    call: _Node = {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": answer}}},
            "default": {
                "description": "refused, with the reason",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if body is not None:
        call["requestBody"] = {"required": True, "content": dict(body)}
    if admin:
        call["security"] = [{"bearer": []}, {"certificate": []}]
    return call


def _json_body(name: str) -> _Node:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _kind() -> _Node:
    return {"name": "kind", "in": "path", "required": True, "schema": {"type": "string", "enum": [*Kind]}}


def _token() -> _Node:
    return {"type": "object", "required": ["token"], "properties": {"token": _TEXT}}


def _key_set() -> _Node:
    key: _Node = {
        "type": "object",
        "required": ["kid", "kty", "x5c"],
        "properties": {"kid": _TEXT, "kty": _TEXT, "x5c": {"type": "array", "items": _TEXT, "minItems": 1}},
    }
    return {"type": "object", "required": ["keys"], "properties": {"keys": {"type": "array", "items": key}}}


def _error() -> _Node:
    inner: _Node = {"type": "object", "required": ["code", "message", "requestId"]}
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "innererror"],
                "properties": {"code": _TEXT, "message": _TEXT, "innererror": inner},
            }
        },
    }
