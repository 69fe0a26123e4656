"""Fetching from a collateral service: HTTPS GETs within bounds of time and size, and no step aside.

No redirects, no proxy and no credentials of the environment, no compression: the configured URLs and nothing else.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence

import httpx2

from bastide.attest.collateral.pcs import LARGEST_BODY, Answer, Question
from bastide.errors import ConfigError, MalformedError, UnavailableError

SECONDS = 10.0
"""Most time for all of the questions together."""

_GOOD, _UNKNOWN = 200, (404, 461, 462)
"""Statuses: an answer; there is no such platform (PCS: 404; PCCS: also 461 and 462)."""


class Fetcher:
    """Asks a collateral service.

    Args:
        ca_file: PEM file of certificate authorities to trust for TLS instead of the system's.
        seconds: most time for one call.

    Raises:
        ConfigError: ``collateral.upstream.ca-file``.
    """

    def __init__(self, ca_file: str | None = None, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        try:
            self._trust = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # SSLError, for a file without certificates, is one
            message = f"cannot read certificates: {error.strerror or error}"
            raise ConfigError("collateral.upstream.ca-file", message, where=ca_file) from error

    def __call__(self, questions: Sequence[Question]) -> Mapping[str, Answer]:
        """The answers by part; blocks for ``seconds`` at most.

        Raises:
            UnavailableError: ``collateral.upstream.unavailable``.
            MalformedError: ``collateral.upstream.unknown`` (the service does not know the platform),
                ``collateral.upstream.size``, ``collateral.upstream.encoding``.
        """
        return asyncio.run(self._all(questions))

    async def _all(self, questions: Sequence[Question]) -> Mapping[str, Answer]:
        client = httpx2.AsyncClient(
            verify=self._trust,
            timeout=self._seconds,
            follow_redirects=False,
            trust_env=False,
            headers={"accept-encoding": "identity"},
        )
        try:
            async with asyncio.timeout(self._seconds), client:
                return {one.part: await _get(client, one.url) for one in questions}  # in turn: one connection
        except TimeoutError:
            message = f"no whole answer within {self._seconds:g} s"
            raise UnavailableError("collateral.upstream.unavailable", message) from None


async def _get(client: httpx2.AsyncClient, url: str) -> Answer:
    try:
        async with client.stream("GET", url) as answer:
            _check_head(answer, url)
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > LARGEST_BODY:
                    message = f"expected at most {LARGEST_BODY} bytes"
                    raise MalformedError("collateral.upstream.size", message, where=url)
            return Answer(body=bytes(body), headers={name.lower(): text for name, text in answer.headers.items()})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        hint = (
            "--collateral-ca-cert FILE trusts a private certificate authority" if "certificate" in str(error) else None
        )
        message = f"no answer: {str(error)[:200] or type(error).__name__}"
        raise UnavailableError("collateral.upstream.unavailable", message, hint=hint, where=url) from error


def _check_head(answer: httpx2.Response, url: str) -> None:
    if answer.status_code in _UNKNOWN:
        message = f"the service has no such collateral (status {answer.status_code})"
        raise MalformedError("collateral.upstream.unknown", message, where=url)
    if answer.status_code != _GOOD:
        redirect = "; redirects are not followed" if answer.is_redirect else ""
        message = f"expected status {_GOOD}, seen {answer.status_code}{redirect}"
        raise UnavailableError("collateral.upstream.unavailable", message, where=url)
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise MalformedError("collateral.upstream.encoding", "expected a body that is not compressed", where=url)
