"""OpenID Connect discovery: an issuer's key set, over HTTPS, from the issuer's own host, and no further.

Source: OpenID Connect Discovery 1.0 section 4 (``{issuer}/.well-known/openid-configuration``, members ``issuer`` and
``jwks_uri``; a slash at the end of the issuer is taken off first); reference attestation-service.md section 6, point 9
(keys shared between issuers).
"""

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from bastide.errors import ConfigError, MalformedError, UnavailableError, UntrustedError
from bastide.token.json_text import read_json

DISCOVERY = "/.well-known/openid-configuration"
_LARGEST_ANSWER = 1 << 20
_SECONDS = 10.0
_GOOD = 200
_HTTPS_PORT = 443


def home_of(issuer: str) -> SplitResult:
    """The parts of an issuer's URL.

    Raises:
        ConfigError: ``token.issuer.url``.
    """
    try:
        parts = urlsplit(issuer)
        good = parts.scheme == "https" and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        good = False
    if not good or "?" in issuer or "#" in issuer or not issuer.isascii() or not issuer.isprintable():
        raise ConfigError(
            "token.issuer.url",
            f"expected an https URL without query or fragment, seen {issuer[:200]!r}",
            hint="keys fetched over plain http prove nothing; give a file of keys where there is no HTTPS",
        )
    return parts


def keys_url(raw: bytes, issuer: str) -> str:
    """Where the issuer's keys are, as its configuration ``raw`` says, once that is its own host and port over HTTPS.

    Raises:
        MalformedError: ``token.issuer.document``, and those of ``read_json``.
        UntrustedError: ``token.issuer.other`` (the document names another issuer), ``token.issuer.keys`` (its keys
            are at another host).
    """
    home = home_of(issuer)
    document = read_json(raw, largest=_LARGEST_ANSWER)
    if not isinstance(document, Mapping):
        raise MalformedError("token.issuer.document", "expected a JSON object", where=DISCOVERY)
    if document.get("issuer") != issuer:
        message = f"expected the configuration of {issuer}, seen that of {document.get('issuer')!r}"
        raise UntrustedError("token.issuer.other", message, hint="write the issuer as its tokens have it in iss")
    url = document.get("jwks_uri")
    if not isinstance(url, str):
        raise MalformedError("token.issuer.document", "expected text in jwks_uri", where=DISCOVERY)
    if not _same_origin(url, home):
        message = f"expected the keys at {home.netloc} over https, seen {url[:200]!r}"
        raise UntrustedError(
            "token.issuer.keys", message, hint="give a file of keys for an issuer that keeps them apart"
        )
    return url


def _same_origin(url: str, home: SplitResult) -> bool:
    try:
        parts = urlsplit(url)
        origin = (parts.scheme, parts.hostname, parts.port or _HTTPS_PORT)
    except ValueError:
        return False
    return origin == ("https", home.hostname, home.port or _HTTPS_PORT) and parts.username is None


class IssuerClient:
    """GET within bounds: no redirects, no compression, 1 MiB an answer, 10 s for all of it.

    Args:
        ca_file: PEM file of certificate authorities to trust instead of the system's.
        use_environment: heed proxies that the environment names.

    Raises:
        ConfigError: ``token.issuer.extra`` (the HTTP client is not installed), ``token.issuer.ca``.
    """

    def __init__(self, ca_file: str | None, *, use_environment: bool = False) -> None:
        try:
            import httpx2
        except ImportError:
            message = "the HTTP client that fetches an issuer's keys is not installed"
            hint = "install bastide[service], or fetch the key set yourself and give --jwks FILE"
            raise ConfigError("token.issuer.extra", message, hint=hint) from None
        self._httpx = httpx2
        self._use_environment = use_environment
        try:
            self._trust = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # SSLError, for a file without certificates, is one
            message = f"cannot read certificates: {error.strerror or error}"
            raise ConfigError("token.issuer.ca", message, where=ca_file) from error

    def key_set(self, issuer: str) -> bytes:
        """The issuer's key set as it gives it; blocks.

        Raises:
            ConfigError: ``token.issuer.url``.
            UnavailableError: ``token.issuer.unavailable``.
            UntrustedError, MalformedError: as ``keys_url``; ``token.issuer.document`` also for too large an answer.
        """
        home_of(issuer)
        return asyncio.run(self._key_set(issuer))

    async def _key_set(self, issuer: str) -> bytes:
        url = issuer.rstrip("/") + DISCOVERY
        try:
            async with asyncio.timeout(_SECONDS):  # of all: a server may send a byte now and then
                return await self._get(keys_url(await self._get(url), issuer))
        except TimeoutError:
            message = f"no whole answer within {_SECONDS:g} s"
            raise UnavailableError("token.issuer.unavailable", message, where=issuer) from None

    async def _get(self, url: str) -> bytes:
        headers = {"accept": "application/json, application/jwk-set+json", "accept-encoding": "identity"}
        client = self._httpx.AsyncClient(
            verify=self._trust, timeout=_SECONDS, follow_redirects=False, trust_env=self._use_environment
        )
        try:
            async with client, client.stream("GET", url, headers=headers) as answer:
                if answer.status_code != _GOOD:
                    raise UnavailableError("token.issuer.unavailable", f"status {answer.status_code}", where=url)
                body = bytearray()
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        message = f"expected at most {_LARGEST_ANSWER} bytes"
                        raise MalformedError("token.issuer.document", message, where=url)
                return bytes(body)
        except (self._httpx.HTTPError, self._httpx.InvalidURL) as error:
            hint = "a CA file trusts a private certificate authority" if "certificate" in str(error) else None
            message = str(error)[:200] or type(error).__name__
            raise UnavailableError("token.issuer.unavailable", message, hint=hint, where=url) from error
