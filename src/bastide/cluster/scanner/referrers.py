"""Signed statements that a registry keeps beside an image.

Whoever may push to the repository may attach anything: nothing here is believed. That a statement is about the pinned
digest in this repository is checked, so that others do not take its place; who signed it is the gate's question.

Source: OCI distribution-spec v1.1 "Listing Referrers"; OCI image-spec v1.1 "Guidelines for Artifact Usage"; DSSE v1.0.
"""

import base64
import binascii
from typing import Final

from bastide.cluster.gate.report import LARGEST_STATEMENT, MOST_STATEMENTS
from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.manifest import Descriptor, Manifest
from bastide.enclave.statement import PAYLOAD_TYPE, Statement
from bastide.errors import BastideError, MalformedError, UnavailableError
from bastide.pods.tree import mapping, text
from bastide.token.json_text import read_json

ENVELOPE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
ARTIFACT_TYPES: Final = (PAYLOAD_TYPE, ENVELOPE_TYPE)
"""Of artefacts and their layers that are looked at."""
_MOST_LOOKED_AT: Final = 32


def statements_of(repository: Repository, digest: str) -> tuple[bytes, ...]:
    """DSSE envelopes that refer to an image and hold a statement of ours about it, at most ``MOST_STATEMENTS``.

    A referrer that is no such thing is passed over.

    Raises:
        UnavailableError: the registry does not answer.
    """
    found: dict[bytes, None] = {}
    try:
        referrers = repository.referrers(digest)
    except UnavailableError:
        raise
    except BastideError:  # a registry without referrers, or with odd ones, has no statements
        return ()
    wanted = [entry for entry in referrers if entry.artifact_type in ("", *ARTIFACT_TYPES)]
    for entry in wanted[:_MOST_LOOKED_AT]:
        for raw in _envelopes(repository, entry, digest):
            found[raw] = None
        if len(found) >= MOST_STATEMENTS:
            break
    return tuple(found)[:MOST_STATEMENTS]


def _envelopes(repository: Repository, referrer: Descriptor, digest: str) -> list[bytes]:
    try:
        _, manifest = repository.document(referrer.digest)
        if not isinstance(manifest, Manifest) or manifest.subject != digest:
            return []  # the list is the registry's word, the subject is what was attached
        layers = [
            layer for layer in manifest.layers if layer.media_type in ARTIFACT_TYPES and layer.size <= LARGEST_STATEMENT
        ]
        contents = [b"".join(repository.blob(layer)) for layer in layers[:MOST_STATEMENTS]]
    except UnavailableError:
        raise
    except BastideError:
        return []
    return [raw for raw in contents if _is_about(raw, digest, repository.name)]


def _is_about(envelope: bytes, digest: str, repository: str) -> bool:
    try:
        payload = text(mapping(read_json(envelope, largest=LARGEST_STATEMENT)).get("payload"))
        stated = Statement.parse(base64.b64decode(payload, validate=True))
    except (MalformedError, binascii.Error, ValueError):
        return False
    return (stated.image_digest, stated.repository) == (digest, repository)
