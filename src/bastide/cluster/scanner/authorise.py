"""Answering a registry that asks who we are.

A registry says where to fetch a token ("realm"), and whoever answers as a registry may say anything: credentials go
to a realm only if it is the registry itself or listed for it. The scope that is asked for is ours (pull of this one
repository), never the one that the registry suggests.

Source: Docker Registry v2 "Token Authentication Specification"; RFC 9110 section 11.6.1 (challenges).
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from bastide.cluster.scanner.credentials import Credentials
from bastide.cluster.scanner.http import Deadline, Question, Wire
from bastide.cluster.scanner.registries import Origin, Registry
from bastide.errors import ConflictError, MalformedError, PolicyError, UnavailableError
from bastide.pods.tree import mapping, text
from bastide.token.json_text import read_json

_LARGEST_TOKEN: Final = 64 * 1024
_LONGEST_CHALLENGE: Final = 4096
_PARAMETER: Final = re.compile(r'([a-z]+)="([^"]*)"', re.ASCII | re.IGNORECASE)
_REFUSED: Final = (400, 401, 403)
_DEFAULT_LIFE: Final = 60.0
"""Seconds a token lives where nothing is said."""
_SHORTEN: Final = 10.0


class Authoriser:
    """Who we are for one repository: each of the credentials in turn, or nobody.

    Args:
        wire: connections.
        registry: which registry.
        repository: path in it.
        credentials: to be tried in this order; empty: anonymous.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        wire: Wire,
        registry: Registry,
        repository: str,
        credentials: Sequence[Credentials],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._registry = registry
        self._repository = repository
        self._left: list[Credentials | None] = list(credentials) or [None]
        self._clock = clock
        self._header = ""
        self._ends = 0.0

    @property
    def header(self) -> str:
        """The Authorization header for the registry now; empty where none was asked for yet or it has run out."""
        return self._header if self._clock() < self._ends else ""

    def renew(self, challenges: Sequence[str], deadline: Deadline, *, refused: bool) -> bool:
        """After a 401: get a header. False when nothing is left to try.

        Args:
            challenges: ``WWW-Authenticate`` headers.
            deadline: of everything.
            refused: whether the header that was sent was fresh: then its credentials are of no use.

        Raises:
            PolicyError: ``scanner.registry.realm``.
            MalformedError: ``scanner.registry.token``, ``scanner.registry.challenge``.
            UnavailableError: as ``Wire.get``; ``scanner.registry.busy``.
        """
        if refused:
            self._left = self._left[1:]
        while self._left:
            header = self._try(self._left[0], challenges, deadline)
            if header:
                self._header = header
                return True
            self._left = self._left[1:]
        return False

    def _try(self, credentials: Credentials | None, challenges: Sequence[str], deadline: Deadline) -> str:
        for challenge in challenges:
            scheme, _, rest = challenge[:_LONGEST_CHALLENGE].strip().partition(" ")
            parameters = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
            if scheme.lower() == "bearer":
                return self._token(credentials, parameters, deadline)
            if scheme.lower() == "basic" and credentials is not None:
                self._ends = float("inf")
                return credentials.basic
        return ""

    def _token(self, credentials: Credentials | None, parameters: dict[str, str], deadline: Deadline) -> str:
        origin, path = self._realm(parameters.get("realm", ""))
        query = {"scope": f"repository:{self._repository}:pull"}
        if parameters.get("service"):
            query["service"] = parameters["service"]
        headers = {"Authorization": credentials.basic} if credentials is not None else {}
        question = Question(origin=origin, target=f"{path}?{urlencode(query)}", headers=headers)
        with self._wire.get(question, deadline) as reply:
            if reply.status in _REFUSED:
                return ""
            if reply.status != 200:
                message = f"expected a token, seen status {reply.status}"
                raise UnavailableError("scanner.registry.busy", message, where=question.where)
            return self._read_token(reply.body(_LARGEST_TOKEN), question.where)

    def _read_token(self, raw: bytes, where: str) -> str:
        try:
            tree = mapping(read_json(raw, largest=_LARGEST_TOKEN))
        except MalformedError:
            tree = {}
        token = text(tree.get("token")) or text(tree.get("access_token"))
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise MalformedError("scanner.registry.token", "expected a token in JSON", where=where)
        seconds = tree.get("expires_in")
        lives = seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else _DEFAULT_LIFE
        self._ends = self._clock() + max(_SHORTEN, lives - _SHORTEN)
        return f"Bearer {token}"

    def _realm(self, realm: str) -> tuple[Origin, str]:
        """Where tokens are to be fetched, if we may fetch them there."""
        ours = self._registry.origin
        try:
            parts = urlsplit(realm)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise self._bad_realm(realm) from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise self._bad_realm(realm)
        port = port or (443 if parts.scheme == "https" else 80)
        own = host == ours.host and port == ours.port
        origin = Origin(scheme=parts.scheme, host=host, port=port, private=ours.private)
        if not own and origin.authority not in self._registry.realms:
            raise PolicyError(
                "scanner.registry.realm",
                f"{ours.authority} wants its credentials sent to {origin.authority}, which is not listed for it",
                hint=f"if that is right, list it: --token-realm {self._registry.name}={origin.authority}",
                where=ours.authority,
            )
        if parts.scheme != "https" and not (own and ours.scheme == "http"):
            message = f"expected https for tokens, seen {realm[:200]!r}"
            raise PolicyError("scanner.registry.realm", message, where=ours.authority)
        return origin, quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")

    def _bad_realm(self, realm: str) -> MalformedError:
        message = f"expected the URL of a token service, seen {realm[:200]!r}"
        return MalformedError("scanner.registry.challenge", message, where=self._registry.origin.authority)


def unauthorised(registry: Registry, repository: str, *, anonymous: bool) -> ConflictError:
    """The refusal of a registry, with what helps."""
    hint = (
        "it may be private: name a pull secret in the pod or its service account"
        if anonymous
        else "the pull secrets of the pod give no right to it"
    )
    message = f"{registry.name} does not let us pull {repository}"
    return ConflictError("scanner.registry.unauthorised", message, hint=hint, where=f"{registry.name}/{repository}")
