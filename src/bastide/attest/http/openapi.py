"""The OpenAPI document of the service."""

from bastide.token.json_text import Json


def document(issuer: str, version: str) -> dict[str, Json]:
    """TODO."""
    return {"openapi": "3.1.0", "info": {"title": "Bastide attestation service", "version": version}, "paths": {}}
