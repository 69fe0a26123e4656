import base64
import json

import pytest

from bastide.cluster.scanner.credentials import MOST_CREDENTIALS, Credentials, PullSecret, matching
from bastide.errors import MalformedError
from bastide.pods.images import ImageReference

AUTH = base64.b64encode(b"alice:se:cret").decode()
ALICE = Credentials(username="alice", password="se:cret")


def _secret(auths, **more):
    return PullSecret.parse(json.dumps({"auths": auths, **more}).encode())


def _for(secret, image):
    return matching([secret], ImageReference.parse(image))


def test_user_and_password_are_read_from_auth_or_from_their_fields():
    assert _for(_secret({"reg.example": {"auth": AUTH}}), "reg.example/app") == (ALICE,)
    fields = {"username": "alice", "password": "se:cret"}
    assert _for(_secret({"reg.example": fields}), "reg.example/app") == (ALICE,)


def test_the_old_form_has_no_auths():
    raw = json.dumps({"reg.example": {"auth": AUTH}}).encode()
    assert _for(PullSecret.parse(raw, old_form=True), "reg.example/app") == (ALICE,)


@pytest.mark.parametrize(
    ("pattern", "image", "is_covered"),
    [
        ("reg.example", "reg.example/app", True),
        ("https://reg.example/v1/", "reg.example/app", True),
        ("https://reg.example/v2/", "reg.example/app", True),
        ("REG.example", "reg.example/app", True),
        ("reg.example", "evil-reg.example/app", False),
        ("reg.example", "reg.example.evil.test/app", False),
        ("reg.example", "reg.example:5000/app", False),
        ("reg.example:5000", "reg.example:5000/app", True),
        ("reg.example/team", "reg.example/team/app", True),
        ("reg.example/team", "reg.example/teams/app", False),
        ("*.example", "reg.example/app", True),
        ("*.example", "a.reg.example/app", False),
        ("*.example", "reg.example:5000/app", False),
        ("*", "localhost/app", True),
        ("*", "reg.example/app", False),
        ("https://index.docker.io/v1/", "ubuntu", True),
        ("docker.io", "docker.io/me/app", True),
        ("index.docker.io/v1", "reg.example/app", False),
    ],
)
def test_credentials_are_for_the_registry_they_name(pattern, image, is_covered):
    assert _for(_secret({pattern: {"auth": AUTH}}), image) == ((ALICE,) if is_covered else ())


def test_the_longest_pattern_comes_first_and_each_pair_once():
    bob = {"username": "bob", "password": "b"}
    secret = _secret({"reg.example": {"auth": AUTH}, "reg.example/team": bob, "*.example": {"auth": AUTH}})
    found = _for(secret, "reg.example/team/app")
    assert [credentials.username for credentials in found] == ["bob", "alice"]


def test_a_bounded_number_is_tried():
    many = {f"reg.example/{'a/' * n}": {"username": f"u{n}", "password": "p"} for n in range(20)}
    assert len(_for(_secret(many), f"reg.example/{'a/' * 20}app")) == MOST_CREDENTIALS


def test_what_is_not_used_is_said():
    secret = _secret({"reg.example": {"identitytoken": "x"}}, credHelpers={"a": "b"})
    assert not secret.entries
    assert "identity token for reg.example" in secret.notes[0]
    assert "not supported" in secret.notes[1]
    assert _secret({}, credsStore="desktop").notes


@pytest.mark.parametrize(
    "raw", [b"", b"secret-stuff", b'{"auths":{"a":{"auth":"!"}}}', b'{"auths":{"a":{"auth":"/w=="}}}']
)
def test_what_is_no_pull_secret_is_refused_without_showing_it(raw):
    with pytest.raises(MalformedError) as caught:
        PullSecret.parse(raw)
    assert caught.value.code.startswith("scanner.secret.")
    assert "secret-stuff" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_too_many_registries_are_refused():
    with pytest.raises(MalformedError):
        _secret({f"r{n}.example": {"auth": AUTH} for n in range(1001)})


def test_a_password_is_not_shown():
    assert "cret" not in repr(ALICE)
    assert ALICE.basic == f"Basic {AUTH}"
