"""Whether the collateral service that the quote provider is configured for answers. Asked only on request."""

import http.client
import ssl
from urllib.parse import urlsplit

from bastide.node.quoteprovider import QuoteProviderConfig

_SECONDS = 5.0
_LARGEST = 1 << 20


def ask_collateral(config: QuoteProviderConfig) -> str:
    """``HTTP 200`` or whatever the service says to a request for the root CA's revocation list; or why it is silent.

    Source: Intel PCS and PCCS API, ``GET {base}/rootcacrl``.
    """
    parts = urlsplit(config.collateral_url)
    host = parts.hostname or ""
    try:
        connection = _connection(parts.scheme, host, parts.port, secure=config.secure_certificates)
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/rootcacrl")
            answer = connection.getresponse()
            answer.read(_LARGEST)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {host}: {str(error)[:200] or type(error).__name__}"
    return f"HTTP {answer.status} from {host}"


def _connection(scheme: str, host: str, port: int | None, *, secure: bool) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_SECONDS)
    context = ssl.create_default_context()
    if not secure:  # what the quote provider does with this configuration
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
