"""Who may ask the scanner: service accounts that it was told of, by tokens made for it.

Source: Kubernetes API reference, TokenReview (``audiences``: a token for another audience is not taken).
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from bastide.errors import PolicyError
from bastide.kube.client import ApiClient
from bastide.pods.tree import at, mapping, sequence

AUDIENCE: Final = "bastide-scanner"
_KEPT: Final = 60.0
"""Seconds for which a good answer is believed; a bad one is never kept."""
_MOST_KEPT: Final = 1000
_AT_ONCE: Final = 8
_LONGEST_TOKEN: Final = 16 * 1024
_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"


class Callers:
    """Judges tokens.

    Args:
        client: of the API server.
        allowed: user names, ``system:serviceaccount:NAMESPACE:NAME``.
        clock: seconds that only rise.
    """

    def __init__(self, client: ApiClient, allowed: Collection[str], clock: Callable[[], float]) -> None:
        self._client = client
        self._allowed = frozenset(allowed)
        self._clock = clock
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def check(self, authorization: str) -> None:
        """Whether an ``Authorization`` header is that of somebody who may ask.

        Raises:
            PolicyError: ``scanner.caller.token`` (none, or not a good one), ``scanner.caller.other``.
            UnavailableError, ConfigError: those of ``ApiClient.create``.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= _LONGEST_TOKEN:
            raise PolicyError("scanner.caller.token", f"expected a bearer token for the audience {AUDIENCE}")
        key = hashlib.sha256(token.encode()).digest()
        if self._good.get(key, 0.0) > self._clock():
            return
        async with self._room:
            await self._review(token)
        self._good[key] = self._clock() + _KEPT
        while len(self._good) > _MOST_KEPT:
            self._good.popitem(last=False)

    async def _review(self, token: str) -> None:
        body: dict[str, object] = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = mapping((await self._client.create(_PATH, body)).get("status"))
        # A server that knows nothing of audiences leaves them out: its yes is not about us.
        if status.get("authenticated") is not True or AUDIENCE not in sequence(status.get("audiences")):
            message = "the token is not good, or not for the scanner"
            raise PolicyError("scanner.caller.token", message, hint=f"project a token with audience {AUDIENCE}")
        user = at(status, ("user", "username"))
        if user not in self._allowed:
            raise PolicyError("scanner.caller.other", f"{user!r:.200} may not ask the scanner", hint="--caller NS/NAME")


def service_account(text: str) -> str:
    """The user name of ``NAMESPACE/NAME``."""
    namespace, _, name = text.partition("/")
    return f"system:serviceaccount:{namespace}:{name}"
