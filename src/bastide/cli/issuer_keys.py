"""The key set of an issuer, fetched the way a relying party must: over HTTPS, from the issuer's own host, no further.

Source: OpenID Connect Discovery 1.0 section 4 (``{issuer}/.well-known/openid-configuration``, members ``issuer`` and
``jwks_uri``); reference attestation-service.md section 6, point 9 (keys shared between issuers).
"""

import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from bastide.errors import ConfigError, MalformedError, UnavailableError, UntrustedError
from bastide.token.json_text import Json, read_json
from bastide.token.jwks import Jwks

DISCOVERY = "/.well-known/openid-configuration"
_LARGEST_ANSWER = 1 << 20
_TIMEOUT_SECONDS = 10.0
_GOOD = 200


def fetch_keys(issuer: str, *, ca_file: str | None) -> Jwks:
    """The issuer's key set.

    Args:
        issuer: https URL without a trailing slash.
        ca_file: PEM file of certificate authorities to trust instead of the system's.

    Raises:
        ConfigError: ``token.issuer.url``, ``token.issuer.extra`` (the HTTP client is not installed),
            ``token.issuer.ca``.
        UnavailableError: ``token.issuer.unavailable``.
        UntrustedError: ``token.issuer.other`` (the document names another issuer), ``token.issuer.keys`` (its keys
            are at another host).
        MalformedError: ``token.issuer.document``, and those of ``Jwks.parse``.
    """
    home = _https(issuer)
    fetch = _Fetcher(ca_file)
    document = read_json(fetch.get(issuer + DISCOVERY), largest=_LARGEST_ANSWER)
    if not isinstance(document, Mapping):
        raise MalformedError("token.issuer.document", "expected a JSON object", where=DISCOVERY)
    if document.get("issuer") != issuer:
        message = f"expected the configuration of {issuer}, seen that of {document.get('issuer')!r}"
        raise UntrustedError("token.issuer.other", message, hint="write the issuer as its tokens have it in iss")
    return Jwks.parse(fetch.get(_keys_at(document, home)))


def _https(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        good = False
    if not good or url.endswith("/") or "?" in url or "#" in url or not url.isascii():
        raise ConfigError(
            "token.issuer.url",
            f"expected an https URL without trailing slash, query or fragment, seen {url[:200]!r}",
            hint="keys fetched over plain http prove nothing; use --jwks FILE where there is no HTTPS",
        )
    return parts


def _keys_at(document: Mapping[str, Json], home: SplitResult) -> str:
    """Where the keys are, once it is the issuer's own host and port over HTTPS."""
    url = document.get("jwks_uri")
    if not isinstance(url, str):
        raise MalformedError("token.issuer.document", "expected text in jwks_uri", where=DISCOVERY)
    try:
        parts = urlsplit(url)
        own = (parts.scheme, parts.hostname, parts.port or 443) == ("https", home.hostname, home.port or 443)
    except ValueError:
        own = False
    if not own or parts.username is not None:
        raise UntrustedError("token.issuer.keys", f"expected the keys at {home.netloc} over https, seen {url[:200]!r}")
    return url


class _Fetcher:
    """GET within bounds: no redirects, 10 s, 1 MiB."""

    def __init__(self, ca_file: str | None) -> None:
        try:
            import httpx2
        except ImportError:
            message = "the HTTP client that fetches an issuer's keys is not installed"
            hint = "install bastide[service], or fetch the key set yourself and give --jwks FILE"
            raise ConfigError("token.issuer.extra", message, hint=hint) from None
        self._httpx = httpx2
        try:
            self._trust = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # SSLError, for a file without certificates, is one
            message = f"cannot read certificates: {error.strerror or error}"
            raise ConfigError("token.issuer.ca", message, where=ca_file) from error

    def get(self, url: str) -> bytes:
        try:
            with (
                self._httpx.Client(verify=self._trust, timeout=_TIMEOUT_SECONDS, follow_redirects=False) as client,
                client.stream("GET", url, headers={"accept": "application/json"}) as answer,
            ):
                if answer.status_code != _GOOD:
                    raise UnavailableError("token.issuer.unavailable", f"status {answer.status_code}", where=url)
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        message = f"expected at most {_LARGEST_ANSWER} bytes"
                        raise MalformedError("token.issuer.document", message, where=url)
                return bytes(body)
        except (self._httpx.HTTPError, self._httpx.InvalidURL) as error:
            hint = "--ca-cert FILE trusts a private certificate authority" if "certificate" in str(error) else None
            raise UnavailableError("token.issuer.unavailable", f"{error}"[:200], hint=hint, where=url) from error
