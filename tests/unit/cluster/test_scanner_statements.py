"""Statements that refer to an image."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.referrers import ARTIFACT_TYPES, ENVELOPE_TYPE, statements_of
from bastide.enclave.statement import PAYLOAD_TYPE, EnclaveClaim, Statement, sign_statement
from bastide.sgx.types import MrEnclave, MrSigner, Svn
from support.images import digest
from support.registry import repository
from support.scanning import code_of, image_with, scanned

KEY = ec.generate_private_key(ec.SECP256R1())


def _statement(registry, name: str, *, key=KEY, place="") -> bytes:
    claim = EnclaveClaim(
        path="/app/e.so",
        kind="intel-sdk",
        mr_enclave=MrEnclave(b"\1" * 32),
        mr_signer=MrSigner(b"\2" * 32),
        product_id=3,
        svn=Svn(4),
    )
    statement = Statement(repository=place or repository(registry).name, image_digest=name, enclaves=(claim,))
    return sign_statement(statement, key)


@pytest.mark.parametrize("kind", ARTIFACT_TYPES)
@pytest.mark.parametrize("has_api", [True, False])
def test_a_statement_that_refers_to_the_image_is_kept_as_it_is(registry, tmp_path, kind, has_api):
    registry.has_referrers_api = has_api
    name = registry.put(image_with())
    envelope = _statement(registry, name)
    registry.attach(name, envelope, kind)
    assert scanned(registry, name, tmp_path).statements == (envelope,)


def test_a_statement_stands_beside_a_failure(registry, tmp_path):
    name = registry.put(image_with())
    envelope = _statement(registry, name)
    registry.attach(name, envelope, PAYLOAD_TYPE)
    report = scanned(registry, name, tmp_path, limits=ScanLimits(layers=1))
    assert code_of(report) == "scanner.image.layers"
    assert report.statements == (envelope,)


def test_what_is_no_statement_about_this_image_takes_no_place(registry, tmp_path):
    name, other = registry.put(image_with()), f"sha256:{'1' * 64}"
    registry.attach(name, _statement(registry, other), PAYLOAD_TYPE)  # about another image
    registry.attach(name, _statement(registry, name, place="else.example/app"), PAYLOAD_TYPE)  # never counts here
    registry.attach(name, _statement(registry, name), PAYLOAD_TYPE, claims=other)  # attached to another
    registry.attach(name, _statement(registry, name, key=ec.generate_private_key(ec.SECP256R1())), "text/plain")
    registry.attach(name, b"not json", ENVELOPE_TYPE)
    registry.attach(name, b'{"payload":"%"}', ENVELOPE_TYPE)
    registry.attach(name, b"x" * 70_000, ENVELOPE_TYPE)
    lost = registry.attach(name, b"lost", ENVELOPE_TYPE)
    del registry.documents[lost]
    good = _statement(registry, name, key=ec.generate_private_key(ec.SECP256R1()))
    registry.attach(name, good, PAYLOAD_TYPE)
    assert scanned(registry, name, tmp_path).statements == (good,)
    assert not any(digest(b"x" * 70_000) in path for path in registry.paths())  # too large to be asked for


def test_a_statement_that_is_not_its_digest_is_left_out(registry, tmp_path):
    name = registry.put(image_with())
    envelope = _statement(registry, name)
    registry.attach(name, envelope, PAYLOAD_TYPE)
    registry.blobs[digest(envelope)] = _statement(registry, name, key=ec.generate_private_key(ec.SECP256R1()))
    assert scanned(registry, name, tmp_path).statements == ()


def test_statements_are_bounded(registry):
    name = registry.put(image_with())
    for number in (1, 1, 1, 1, 1, 1, 1, 3):
        envelopes = [_statement(registry, name, key=ec.generate_private_key(ec.SECP256R1())) for _ in range(number)]
        registry.attach(name, envelopes[0], PAYLOAD_TYPE, more=envelopes[1:])
    assert len(statements_of(repository(registry), name)) == 8
