"""The key set of an issuer, fetched the way a relying party must: over HTTPS from its own host, no further."""

from bastide.attest.oidc import IssuerClient, home_of
from bastide.errors import ConfigError
from bastide.token.jwks import Jwks


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
    home_of(issuer)
    if issuer.endswith("/"):
        message = f"expected the issuer without a slash at its end, seen {issuer[:200]!r}"
        raise ConfigError("token.issuer.url", message, hint="write it as the token has it in iss")
    return Jwks.parse(IssuerClient(ca_file, use_environment=True).key_set(issuer))
