from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bastide.attest.keys import KeyRing, KeySchedule, due, make_key, moved, retired
from bastide.attest.ports import KeyRecord
from bastide.errors import ConfigError
from bastide.token.jose import verify
from bastide.token.jwks import Jwks
from support.tokens import ISSUER, NOW

PLAN = KeySchedule(rotate_after=timedelta(days=90), publish_before=timedelta(days=2), keep_after=timedelta(days=1))
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def first() -> KeyRecord:
    return make_key("a", ISSUER, now=NOW, active_from=NOW)


def test_the_first_key_signs_at_once(first: KeyRecord) -> None:
    assert due((), NOW, PLAN) == NOW
    ring = KeyRing.of((first,), ISSUER)
    claims = {"iss": ISSUER, "nbf": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 60}
    assert verify(ring.signer(NOW).sign(claims), Jwks(keys=ring.published()), NOW, issuer=ISSUER) == claims


def test_a_new_key_is_shown_before_it_signs(first: KeyRecord) -> None:
    assert due((first,), first.active_from + 87 * DAY, PLAN) is None
    made_at = first.active_from + 88 * DAY
    start = due((first,), made_at, PLAN)
    assert start == first.active_from + 90 * DAY
    second = replace(first, kid="second", active_from=start)
    ring = KeyRing.of((second, first), ISSUER)
    assert len(ring.published()) == 2
    assert [which is ring.signers[0][1] for which in (ring.signer(made_at), ring.signer(start))] == [True, False]
    assert due((first, second), made_at + DAY, PLAN) is None, "one is waiting already"


def test_a_service_that_slept_past_the_day_still_shows_a_key_first(first: KeyRecord) -> None:
    late = NOW + 200 * DAY
    assert due((first,), late, PLAN) == late + PLAN.publish_before


def test_an_old_key_stays_until_no_token_of_its_own_can_be_alive(first: KeyRecord) -> None:
    second = replace(first, kid="second", active_from=NOW + 90 * DAY)
    assert retired((first, second), second.active_from + DAY - timedelta(seconds=2), PLAN) == ()
    (gone,) = retired((first, second), second.active_from + DAY, PLAN)
    assert (gone.kid, gone.private_key) == (first.kid, None)
    ring = KeyRing.of((gone, second), ISSUER)
    assert len(ring.published()) == 1
    assert len(ring.all_ever().keys) == 2


def test_every_key_is_published_with_its_certificate(first: KeyRecord) -> None:
    (shown,) = KeyRing.of((first,), ISSUER).published()
    assert shown.build().keys() == {"kid", "kty", "x5c"}
    assert shown.kid == first.kid


def test_a_changed_issuer_gets_a_new_certificate_for_the_same_key(first: KeyRecord) -> None:
    assert moved(first, ISSUER, NOW) is first
    elsewhere = moved(first, "https://elsewhere.example.org", NOW)
    assert elsewhere.certificate != first.certificate
    assert (elsewhere.kid, elsewhere.private_key) == (first.kid, first.private_key)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_read_is_an_error(first: KeyRecord, pem: bytes) -> None:
    with pytest.raises(ConfigError, match=r"attest\.keys\.unreadable"):
        KeyRing.of((replace(first, private_key=pem),), ISSUER)


def test_no_key_signs_before_its_time(first: KeyRecord) -> None:
    earlier: datetime = first.active_from - DAY
    with pytest.raises(ConfigError, match=r"attest\.keys\.none"):
        KeyRing.of((first,), ISSUER).signer(earlier)
