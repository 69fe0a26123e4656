"""Where issuers' keys come from: files that change, and discovery that may fail."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from bastide.attest.issuerkeys import OLDEST, ONCE, REFRESH, DiscoveredKeys, FileKeys
from bastide.attest.oidc import IssuerClient, keys_url
from bastide.errors import BastideError, ConfigError, MalformedError, UnavailableError, UntrustedError
from support.issuers import Issuer
from support.tokens import NOW, rsa_key

ISSUER = "https://identity.example.org/realm"
SECOND = timedelta(seconds=1)


def key(kid: str) -> dict[str, Any]:
    return RSAKey.import_key(rsa_key("admin"), {"kid": kid}).as_dict(private=False)


def _set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def kids(source: FileKeys | DiscoveredKeys, after: timedelta = timedelta(0)) -> list[Any]:
    entries: Any = source.at_hand(NOW + after)["keys"]
    return [one["kid"] for one in entries]


# files


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(_set(key("one")))
    source = FileKeys(file)
    assert kids(source) == ["one"]
    file.write_bytes(_set(key("one"), key("two")))
    assert kids(source) == ["one"], "a request does not wait for the disk"
    source.refresh(NOW)
    assert kids(source) == ["one", "two"]


@pytest.mark.parametrize(
    "content", [b"", b'{"keys":', b"[]", b'{"keys":[]}', b'{"keys":[{"kty":"oct","k":"AA"}]}', None]
)
def test_a_file_that_cannot_be_used_leaves_the_old_keys_and_is_told_of_once(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(_set(key("one")))
    source = FileKeys(file)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(BastideError):
        source.refresh(NOW)
    source.refresh(NOW)
    assert kids(source) == ["one"]


def test_a_file_too_large_is_not_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(_set(key("one")) + b" " * (1 << 20))
    with pytest.raises(ConfigError, match=r"file\.large"):
        FileKeys(tmp_path / "keys.json")


# discovery


class _Far:
    """An issuer far away: its answer, and how often it was asked."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys)
        self.fault: BastideError | None = None
        self.asked = 0

    def __call__(self, issuer: str) -> bytes:
        assert issuer == ISSUER
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return _set(*self.keys)

    def source(self) -> DiscoveredKeys:
        return DiscoveredKeys(ISSUER, self, chance=lambda: 0.0)


def _refresh(source: DiscoveredKeys, after: timedelta, *, wanted: bool = False) -> None:
    source.refresh(NOW + after, wanted=wanted)


def test_keys_are_fetched_at_first_and_anew_when_it_is_time() -> None:
    far = _Far(key("one"))
    source = far.source()
    with pytest.raises(UnavailableError, match=r"attest\.issuer-keys\.unavailable"):
        kids(source)
    for after in (timedelta(0), SECOND, REFRESH - SECOND):
        _refresh(source, after)
    assert (kids(source), far.asked) == (["one"], 1)
    far.keys = [key("two")]
    _refresh(source, REFRESH)
    assert (kids(source), far.asked) == (["two"], 2)


def test_chance_makes_replicas_ask_at_different_times_and_sooner() -> None:
    far = _Far(key("one"))
    source = DiscoveredKeys(ISSUER, far, chance=lambda: 1.0)
    source.refresh(NOW)
    source.refresh(NOW + REFRESH / 2 - SECOND)
    assert far.asked == 1
    source.refresh(NOW + REFRESH / 2)
    assert far.asked == 2


def test_an_unknown_key_makes_us_ask_once_a_minute_at_most() -> None:
    far = _Far(key("one"))
    source = far.source()
    _refresh(source, timedelta(0))
    for seconds in range(0, 3 * 60, 5):
        _refresh(source, timedelta(seconds=seconds), wanted=True)
    assert far.asked == 1 + 2
    assert timedelta(seconds=60) == ONCE


def test_the_last_good_keys_stay_for_a_day_and_no_longer() -> None:
    far = _Far(key("one"))
    source = far.source()
    _refresh(source, timedelta(0))
    far.fault = UnavailableError("token.issuer.unavailable", "gone")
    for hours in range(1, 24):
        with pytest.raises(UnavailableError):
            _refresh(source, timedelta(hours=hours))
    assert kids(source, OLDEST) == ["one"]
    with pytest.raises(UnavailableError, match=r"attest\.issuer-keys\.unavailable"):
        kids(source, OLDEST + SECOND)
    far.fault = None
    _refresh(source, OLDEST + REFRESH)
    assert kids(source, OLDEST + REFRESH) == ["one"]


def test_an_issuer_that_fails_is_asked_less_and_less() -> None:
    far = _Far(key("one"))
    far.fault = UntrustedError("token.issuer.other", "another")
    source = far.source()
    failures = 0
    for seconds in range(0, 3600, 5):
        try:
            _refresh(source, timedelta(seconds=seconds))
        except UntrustedError:
            failures += 1
    assert failures == far.asked
    assert 5 <= failures <= 12, "thirty seconds, doubling up to ten minutes"


def test_keys_that_cannot_verify_anything_are_passed_over() -> None:
    encryption, other = {**key("enc"), "use": "enc"}, {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ed"}
    private = RSAKey.import_key(rsa_key("admin"), {"kid": "secret"}).as_dict(private=True)
    curve = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "ec"}
    source = _Far(other, 7, {"kty": "RSA"}, {"kty": "oct", "k": "AA"}, private, curve, encryption).source()
    _refresh(source, timedelta(0))
    assert kids(source) == ["ec", "enc"], "bearer tokens are checked for the use later"
    none = _Far(other).source()
    with pytest.raises(ConfigError, match=r"attest\.bearer\.keys"):
        _refresh(none, timedelta(0))


@pytest.mark.parametrize(
    "url", ["", "identity.example.org", "http://identity.example.org", "https://a@b", "https://a?b"]
)
def test_an_issuer_that_is_no_https_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match=r"token\.issuer\.url"):
        DiscoveredKeys(url, _Far())


# the document


def _document(**members: object) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": "https://identity.example.org/keys", **members}).encode()


def test_the_keys_are_where_the_issuers_own_document_says() -> None:
    assert keys_url(_document(), ISSUER) == "https://identity.example.org/keys"
    assert keys_url(_document(jwks_uri="https://identity.example.org:443/k"), ISSUER).endswith(":443/k")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (_document(issuer="https://identity.example.org"), "token.issuer.other"),
        (_document(issuer=ISSUER + "/"), "token.issuer.other"),
        (_document(issuer=None), "token.issuer.other"),
        (_document(jwks_uri=None), "token.issuer.document"),
        (_document(jwks_uri="http://identity.example.org/keys"), "token.issuer.keys"),
        (_document(jwks_uri="https://identity.example.org.evil.example/keys"), "token.issuer.keys"),
        (_document(jwks_uri="https://identity.example.org@evil.example/keys"), "token.issuer.keys"),
        (_document(jwks_uri="https://me@identity.example.org/keys"), "token.issuer.keys"),
        (_document(jwks_uri="https://identity.example.org:444/keys"), "token.issuer.keys"),
        (_document(jwks_uri="file:///etc/passwd"), "token.issuer.keys"),
        (_document(jwks_uri="/keys"), "token.issuer.keys"),
        (b"[]", "token.issuer.document"),
        (b"{", "token.json.syntax"),
    ],
)
def test_refuses_a_document_of_another_issuer_or_with_keys_elsewhere(raw: bytes, code: str) -> None:
    with pytest.raises((UntrustedError, MalformedError)) as caught:
        keys_url(raw, ISSUER)
    assert caught.value.code == code


def test_an_issuer_may_end_with_a_slash_and_its_document_is_below_it(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    name = f"{issuer.url}/"
    issuer.answer("/lab/.well-known/openid-configuration", {"issuer": name, "jwks_uri": f"{name}keys"})
    issuer.answer("/lab/keys", {"keys": [key("one")]})
    with issuer.running():
        assert json.loads(IssuerClient(str(issuer.ca_file)).key_set(name)) == {"keys": [key("one")]}


def test_an_issuer_that_trickles_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bastide.attest.oidc._SECONDS", 0.5)
    issuer = Issuer(tmp_path)
    issuer.answer("/lab/.well-known/openid-configuration", b" " * 40, pause=0.1)
    with issuer.running(), pytest.raises(UnavailableError, match=r"within 0\.5 s"):
        IssuerClient(str(issuer.ca_file)).key_set(issuer.url)
