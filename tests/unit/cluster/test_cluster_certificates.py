import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.cluster.certificates import (
    CA_LIFE,
    LEAF_LIFE,
    MOST_AUTHORITIES,
    SKEW,
    Certificates,
    Step,
    begin,
    next_step,
    take,
)
from bastide.errors import MalformedError

NOW = datetime(2026, 11, 23, 17, tzinfo=UTC)
NAMES = ("bastide-admission.bastide-system.svc", "bastide-admission.bastide-system.svc.cluster.local")


def _step(held, at, *, published=True, names=NAMES):
    return next_step(held, names, at, published=published)


def _trusts(bundle: bytes, leaf: x509.Certificate) -> bool:
    """By another implementation than ours."""
    from cryptography.x509 import verification

    store = verification.Store(x509.load_pem_x509_certificates(bundle))
    at = leaf.not_valid_before_utc + timedelta(hours=2)
    verifier = verification.PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(leaf, [])
    except verification.VerificationError:
        return False
    return True


def test_what_is_begun_is_good_for_its_names_and_needs_nothing():
    held = begin(NAMES, NOW)
    assert _trusts(held.bundle_pem, held.leaf)
    assert _step(held, NOW) is None
    assert held.leaf.not_valid_before_utc < NOW - timedelta(minutes=30)
    assert held.made_at == NOW


def test_a_secret_gives_back_what_was_put_in():
    held = begin(NAMES, NOW)
    again = Certificates.parse({"data": held.build()})
    assert (again.bundle, again.leaf) == (held.bundle, held.leaf)
    assert again.leaf_key_pem == held.leaf_key_pem


def test_each_certificate_is_renewed_after_two_thirds_of_its_life():
    held = begin(NAMES, NOW)
    assert _step(held, NOW + LEAF_LIFE * 2 / 3 - SKEW) is None
    assert _step(held, NOW + LEAF_LIFE * 2 / 3 + timedelta(hours=2)) is Step.LEAF
    assert _step(held, NOW + CA_LIFE * 2 / 3 + timedelta(hours=2)) is Step.AUTHORITY


def test_a_new_authority_comes_into_the_bundle_before_anything_is_signed_by_it():
    held = begin(NAMES, NOW)
    later = NOW + CA_LIFE * 2 / 3 + timedelta(hours=2)
    held = take(Step.LEAF, held, NAMES, later - timedelta(days=1))
    after = take(Step.AUTHORITY, held, NAMES, later)
    assert after.leaf == held.leaf
    assert after.bundle[1] == held.bundle[0]
    assert _trusts(after.bundle_pem, after.leaf)
    # until the bundle is known everywhere, the server shows what it showed
    assert _step(after, later, published=False) is None
    assert _step(after, later, published=True) is Step.LEAF
    renewed = take(Step.LEAF, after, NAMES, later)
    assert _trusts(renewed.bundle_pem, renewed.leaf)
    assert not _trusts(held.bundle_pem, renewed.leaf)
    assert _step(renewed, later) is None
    end = held.bundle[0].not_valid_after_utc
    assert _step(renewed, end) is Step.LEAF or _step(renewed, end) is Step.TRIM
    trimmed = take(Step.TRIM, renewed, NAMES, end)
    assert trimmed.bundle == renewed.bundle[:1]


def test_a_server_that_nobody_could_talk_to_waits_for_nobody():
    held = begin(NAMES, NOW)
    assert _step(held, NOW, published=False, names=("other.svc",)) is Step.LEAF
    ended = held.leaf.not_valid_after_utc
    assert _step(held, ended, published=False) is Step.LEAF


def test_a_clock_that_is_ahead_by_less_than_a_day_harms_nobody():
    ahead = begin(NAMES, NOW + SKEW - timedelta(minutes=1))
    assert ahead.leaf.not_valid_before_utc < NOW
    assert ahead.bundle[0].not_valid_before_utc < NOW
    assert _step(ahead, NOW) is None


def test_certificates_of_a_clock_far_ahead_are_made_anew_by_whoever_leads_next():
    held = begin(NAMES, NOW + timedelta(days=30))
    assert _step(held, NOW, published=False) is Step.AUTHORITY
    held = take(Step.AUTHORITY, held, NAMES, NOW)
    assert _step(held, NOW, published=False) is Step.LEAF
    held = take(Step.LEAF, held, NAMES, NOW)
    assert held.leaf.not_valid_before_utc < NOW < held.leaf.not_valid_after_utc
    assert _trusts(held.bundle[0].public_bytes(Encoding.PEM), held.leaf)


def test_certificates_of_a_clock_that_is_behind_are_good_for_the_others():
    held = begin(NAMES, NOW - timedelta(days=20))
    assert held.leaf.not_valid_before_utc < NOW < held.leaf.not_valid_after_utc
    assert _step(held, NOW) is None


def test_the_bundle_stays_small_and_keeps_the_authority_that_is_in_use():
    held = begin(NAMES, NOW)
    for number in range(8):
        held = take(Step.AUTHORITY, held, NAMES, NOW + timedelta(days=number))
    assert len(held.bundle) <= MOST_AUTHORITIES
    held.check()


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("value", [None, "", "!", "AAAA", 7, "A" * 70000])
def test_a_broken_secret_is_malformed(name, value):
    data = begin(NAMES, NOW).build()
    data[name] = value
    with pytest.raises(MalformedError) as caught:
        Certificates.parse({"data": data})
    assert caught.value.code == "certificates.secret"


@pytest.mark.parametrize("tree", [None, [], {}, {"data": []}])
def test_something_else_is_malformed(tree):
    with pytest.raises(MalformedError):
        Certificates.parse(tree)


@pytest.mark.parametrize("part", ["ca_key", "leaf_key", "bundle"])
def test_parts_that_do_not_fit_together_are_malformed(part):
    held = begin(NAMES, NOW)
    other = begin(NAMES, NOW)
    mixed = replace(held, **{part: getattr(other, part)})
    if part == "bundle":
        mixed = replace(mixed, ca_key=other.ca_key)
    with pytest.raises(MalformedError):
        Certificates.parse({"data": mixed.build()})


def test_the_files_are_what_a_tls_server_takes(tmp_path):
    held = begin(NAMES, NOW)
    (tmp_path / "c").write_bytes(held.leaf_pem)
    (tmp_path / "k").write_bytes(held.leaf_key_pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "c", tmp_path / "k")
    assert isinstance(held.leaf_key, ec.EllipticCurvePrivateKey)
