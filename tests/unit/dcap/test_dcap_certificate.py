from dataclasses import replace

import pytest

from bastide.dcap import PreparedCollateral, certificate, verify
from bastide.dcap.certificate import Certificate, Signatures
from bastide.dcap.chains import Chain
from bastide.errors import MalformedError
from bastide.pki.chain import TrustAnchor, dump_pem_chain
from bastide.pki.ecdsa import verify_der
from support.quotes import AT, good_world


def chain() -> tuple[Certificate, ...]:
    return Chain.parse(good_world().certification.data).certificates


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The questions about signatures that the crypto library is asked."""
    questions: list[tuple[object, ...]] = []

    def ask(*question: object) -> bool:
        questions.append(question)
        return verify_der(*question)  # type: ignore[arg-type] - passed on as they came

    monkeypatch.setattr(certificate, "verify_der", ask)
    return questions


def test_says_what_the_certificate_says() -> None:
    leaf, intermediate, root = chain()
    assert (leaf.issuer_name, intermediate.issuer_name) == (intermediate.name, root.name)
    assert [cert.is_authority for cert in (leaf, intermediate, root)] == [False, True, True]
    assert [cert.is_self_issued for cert in (leaf, intermediate, root)] == [False, False, True]
    assert leaf.serial_number == good_world().pck.serial_number
    assert (leaf.not_before, leaf.not_after) == (
        good_world().pck.not_valid_before_utc,
        good_world().pck.not_valid_after_utc,
    )
    assert leaf.missing == ()


def test_what_is_no_certificate_is_refused_with_its_place() -> None:
    with pytest.raises(MalformedError) as caught:
        Certificate.read(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", 2)
    assert caught.value.where == "certificate 2"


def test_known_certificates_are_not_read_again() -> None:
    known = chain()
    again = Chain.parse(good_world().certification.data, known[2:]).certificates
    assert [one is other for one, other in zip(again, known, strict=True)] == [False, False, True]
    assert again == known


def test_each_signature_is_asked_about_once(asked: list[tuple[object, ...]]) -> None:
    leaf, intermediate, _ = chain()
    signatures = Signatures()
    for _ in range(2):
        assert signatures.certified_by(intermediate, leaf)
        assert not signatures.certified_by(leaf, intermediate)
    assert len(asked) == 2


def anchor() -> TrustAnchor:
    """The root of good worlds, out of its certificate."""
    return TrustAnchor.from_pem(dump_pem_chain((good_world().pki.root.certificate,)))


def test_root_that_the_anchor_knows_is_not_asked_about(asked: list[tuple[object, ...]]) -> None:
    world = good_world()
    _, intermediate, root = chain()
    assert Signatures(anchor()).copy().certified_by(root, root)
    assert asked == []
    assert Signatures(anchor()).certified_by(root, intermediate)
    assert len(asked) == 1
    asked.clear()
    verdict = verify(world.quote, world.collateral, AT, root=anchor())
    assert verdict == verify(world.quote, world.collateral, AT, root=world.root)
    assert verdict.acceptable


def test_root_with_the_same_key_that_the_anchor_does_not_know_is_asked_about() -> None:
    _, _, root = chain()
    tbs = bytes([*root.tbs[:-1], root.tbs[-1] ^ 1])
    changed = replace(root, tbs=tbs, fingerprint=bytes(32))
    assert anchor().pins(changed.x509_certificate)
    assert not Signatures(anchor()).certified_by(changed, changed)
    other = replace(root, fingerprint=bytes(32))
    assert Signatures(anchor()).certified_by(other, other)


def test_a_copy_knows_the_same_and_does_not_teach(asked: list[tuple[object, ...]]) -> None:
    leaf, intermediate, root = chain()
    signatures = Signatures()
    signatures.certified_by(intermediate, leaf)
    copied = signatures.copy()
    assert copied.certified_by(intermediate, leaf)
    copied.certified_by(root, intermediate)
    assert len(asked) == 2
    signatures.certified_by(root, intermediate)
    assert len(asked) == 3


def test_a_whole_verification_asks_about_no_signature_twice(asked: list[tuple[object, ...]]) -> None:
    world = good_world()
    collateral = world.collateral
    assert verify(world.quote, collateral, AT, root=world.root).acceptable
    assert len({question[1:] for question in asked}) == len(asked) == 6  # root, two CAs' CRLs, signer, CA, leaf


def test_prepared_collateral_does_not_grow(asked: list[tuple[object, ...]]) -> None:
    world = good_world()
    prepared = PreparedCollateral.of(world.collateral, world.root)
    for _ in range(2):
        before = len(asked)
        verify(world.quote, prepared, AT, root=world.root)
        assert len(asked) - before == 3  # CA, leaf and the CA's CRL
