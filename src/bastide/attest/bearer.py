"""Administrators' bearer tokens: a JWT of an issuer that the tenant names, checked with that issuer's keys.

``jku``, ``jwk``, ``x5u`` and ``x5c`` of a token are never looked at. An issuer speaks for many, so each rule asks for
claims as well.

Source: RFC 7519 section 4.1, RFC 6750 section 3, RFC 8725 (algorithms by list, key type by algorithm).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from bastide.attest.tenants import AdminRule, KeySource, Role, Wanted
from bastide.errors import ConfigError, MalformedError, UnavailableError, UntrustedError
from bastide.token.json_text import Json, read_json

_ALGORITHMS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
_LARGEST_TOKEN = 16 * 1024
_SMALLEST_RSA = 2048
_SHORTEST_MODULUS = -(-_SMALLEST_RSA // 6)
"""Length of such a modulus in base64url without padding."""
_SLACK_SECONDS = 30
_MOST_KEYS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, and what they may do.

    Attributes:
        voucher: who says so: the issuer of a token, ``certificate`` for a client certificate.
        subject: whom the voucher names.
        roles: none where the voucher is good and no rule gives a role.
    """

    voucher: str
    subject: str
    roles: frozenset[Role]

    @property
    def name(self) -> str:
        """For the audit log: two issuers may well name the same subject."""
        return f"{self.voucher} {self.subject}"


def check_key_set(keys: Mapping[str, Json]) -> None:
    """Refuse a key set of an issuer that could not verify anything, or holds secrets.

    Raises:
        ConfigError: ``attest.bearer.keys``.
    """
    entries = keys.get("keys")
    if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_KEYS:
        raise ConfigError("attest.bearer.keys", f'expected {{"keys": [...]}} with 1 to {_MOST_KEYS} keys')
    for entry in entries:
        if not isinstance(entry, Mapping) or entry.get("kty") not in _ALGORITHMS.values() or "d" in entry:
            raise ConfigError("attest.bearer.keys", "expected public RSA and EC keys only, no shared or private keys")
        _import(entry)


def usable_keys(keys: Json) -> Mapping[str, Json]:
    """Those keys of an issuer's set that can verify a token here; issuers have others as well.

    Raises:
        ConfigError: ``attest.bearer.keys``: there is none, or there are too many.
    """
    entries = _list(keys.get("keys")) if isinstance(keys, dict) else []
    found: dict[str, Json] = {"keys": [one for one in entries if _is_usable(one)]}
    check_key_set(found)
    return found


def authenticate(token: str, rules: Sequence[AdminRule], now: datetime) -> Principal:
    """Whose token it is.

    Raises:
        UntrustedError: ``attest.bearer.*``: it is no good token of any issuer that a rule names.
        UnavailableError: ``attest.issuer-keys.unavailable``: its issuer's keys are not at hand.
    """
    header, claims = _take_apart(token)
    own = _concerned(claims, rules)
    if not own:
        raise UntrustedError("attest.bearer.issuer", "the token's issuer or audience is not one that counts here")
    good, unavailable = _signed_for(token, header, own, now)
    if not good:
        message = "the token is not signed with a key of its issuer"
        raise unavailable or UntrustedError("attest.bearer.signature", message)
    _check_times(claims, now)
    roles = frozenset(rule.role for rule in good if _has(claims, rule.claims))
    return Principal(voucher=good[0].issuer, subject=str(claims.get("sub", ""))[:200], roles=roles)


def lacking(token: str, rules: Sequence[AdminRule], now: datetime) -> tuple[KeySource, ...]:
    """Whose keys to look for anew before a token that was refused is: those that lack the key which it names."""
    try:
        header, claims = _take_apart(token)
    except UntrustedError:
        return ()
    kid = header.get("kid")
    sources = dict.fromkeys(rule.keys for rule in _concerned(claims, rules))
    return tuple(source for source in sources if not _knows(source, kid, now))


def _knows(source: KeySource, kid: Json, now: datetime) -> bool:
    try:
        entries = source.at_hand(now).get("keys")
    except UnavailableError:
        return False
    return kid is None or any(isinstance(one, Mapping) and one.get("kid") == kid for one in _list(entries))


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _concerned(claims: Mapping[str, Json], rules: Sequence[AdminRule]) -> list[AdminRule]:
    issuer, audience = claims.get("iss"), claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    return [rule for rule in rules if rule.issuer == issuer and rule.audience in audiences]


def _signed_for(
    token: str, header: Mapping[str, Json], rules: Sequence[AdminRule], now: datetime
) -> tuple[list[AdminRule], UnavailableError | None]:
    """The rules whose issuer signed, and why that cannot be said of some rule."""
    good: list[AdminRule] = []
    unavailable = None
    for rule in rules:
        try:
            if _signed(token, header, rule.keys.at_hand(now)):
                good.append(rule)
        except UnavailableError as error:
            unavailable = error
    return good, unavailable


def _is_usable(entry: Json) -> bool:
    try:
        check_key_set({"keys": [entry]})
    except ConfigError:
        return False
    return True


def _take_apart(token: str) -> tuple[Mapping[str, Json], Mapping[str, Json]]:
    if len(token) > _LARGEST_TOKEN or not token.isascii():
        raise UntrustedError("attest.bearer.form", "the bearer token is too large, or no token at all")
    try:
        parts = jws.extract_compact(token.encode())
        header: dict[str, Json] = dict(parts.headers())
        claims = read_json(parts.payload)
    except (JoseError, MalformedError, ValueError):
        raise UntrustedError("attest.bearer.form", "the bearer token is not a JWT") from None
    if not isinstance(claims, dict) or "crit" in header:
        raise UntrustedError("attest.bearer.form", "the bearer token is not a JWT that we understand")
    return header, claims


def _signed(token: str, header: Mapping[str, Json], keys: Mapping[str, Json]) -> bool:
    algorithm, kid = header.get("alg"), header.get("kid")
    entries = keys.get("keys")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS or not isinstance(entries, list):
        return False
    fitting = [
        entry
        for entry in entries
        if isinstance(entry, Mapping)
        and entry.get("kty") == _ALGORITHMS[algorithm]
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and (entry.get("kid") == kid or (kid is None and len(entries) == 1))
    ]
    registry = jws.JWSRegistry(algorithms=[algorithm])
    registry.max_payload_length = _LARGEST_TOKEN
    return any(_verifies(token, entry, registry) for entry in fitting)


def _verifies(token: str, entry: Mapping[str, Json], registry: jws.JWSRegistry) -> bool:
    try:
        jws.deserialize_compact(token, _import(entry), registry=registry)
    except (JoseError, ValueError):
        return False
    return True


def _import(entry: Mapping[str, Json]) -> RSAKey | ECKey:
    plain: dict[str, str | list[str]] = {name: value for name, value in entry.items() if isinstance(value, str)}
    if entry.get("kty") == "RSA" and len(str(entry.get("n", ""))) < _SHORTEST_MODULUS:
        raise ConfigError("attest.bearer.keys", f"expected RSA keys of at least {_SMALLEST_RSA} bits")
    try:
        return RSAKey.import_key(plain) if entry.get("kty") == "RSA" else ECKey.import_key(plain)
    except (JoseError, ValueError, KeyError) as error:
        raise ConfigError("attest.bearer.keys", f"a key of the set cannot be read: {str(error)[:80]}") from error


def _check_times(claims: Mapping[str, Json], now: datetime) -> None:
    expires, not_before, seen = claims.get("exp"), claims.get("nbf", 0), now.timestamp()
    if isinstance(expires, bool) or not isinstance(expires, int | float) or seen >= expires:
        raise UntrustedError("attest.bearer.expired", "the bearer token has run out, or does not say when it will")
    if isinstance(not_before, bool) or not isinstance(not_before, int | float) or seen + _SLACK_SECONDS < not_before:
        raise UntrustedError("attest.bearer.early", "the bearer token is not valid yet")


def _has(claims: Mapping[str, Json], wanted: Mapping[str, Wanted]) -> bool:
    """Every wanted claim is there as it is wanted; nothing wanted is nothing shown."""
    return bool(wanted) and all(_fits(claims.get(name), value) for name, value in wanted.items())


def _fits(seen: Json, wanted: Wanted) -> bool:
    if isinstance(wanted, str):
        return wanted in (seen if isinstance(seen, list) else [seen])
    return isinstance(seen, Mapping) and _has(seen, wanted)
