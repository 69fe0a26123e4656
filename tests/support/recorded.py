"""Recorded sessions with Azure Attestation, as the vectors hold them."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from support.vectors import vectors


@dataclass(frozen=True)
class Attestation:
    """One recorded attest call: what was sent, the token that came back, taken apart."""

    quote: bytes
    runtime_data: bytes
    runtime_is_json: bool
    token: str
    claims: dict[str, Any]


def attestations() -> list[Attestation]:
    """Every attest call of the SGX session."""
    exchanges = json.loads((vectors("maa") / "sessions" / "attest-sgx.json").read_text())
    return [_attestation(one) for one in exchanges if "/attest/" in one["request"]["uri"]]


def key_sets() -> list[bytes]:
    """Every answer to GET /certs of the SGX session."""
    exchanges = json.loads((vectors("maa") / "sessions" / "attest-sgx.json").read_text())
    return [
        json.dumps(one["response"]["body"]).encode() for one in exchanges if one["request"]["uri"].endswith("/certs")
    ]


def base64url(text: str) -> bytes:
    """Decode without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _attestation(exchange: dict[str, Any]) -> Attestation:
    sent = json.loads(exchange["request"]["body"])
    token = exchange["response"]["body"]["token"]
    return Attestation(
        quote=base64url(sent["quote"]),
        runtime_data=base64url(sent["runtimeData"]["data"]),
        runtime_is_json=sent["runtimeData"]["dataType"] == "JSON",
        token=token,
        claims=json.loads(base64url(token.split(".")[1])),
    )
