"""The policies of a tenant that are in force, as fresh as several replicas need them.

Where other processes write to the store as well, a policy is read again when it was read more than a second before the
request came. Whoever changes a policy waits that second before answering: once it is said that a policy is in force, no
replica decides by the one before. When the store does not answer, nothing is decided.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bastide.attest.policyjws import PolicyJws
from bastide.attest.ports import Store
from bastide.attest.tenants import Kind, TenantConfig
from bastide.policy import PolicyDocument
from bastide.token.json_text import Json

FRESH_SECONDS = 1.0
"""How old a policy may be that was read from a store where others write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePolicy:
    """A policy in force, and who signed it."""

    document: PolicyDocument
    signer: Mapping[str, Json] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A policy with its text, and when reading it began (the loop's clock)."""

    began: float
    jws: str | None
    active: ActivePolicy


class PolicyShelf:
    """The policies of one tenant."""

    def __init__(self, config: TenantConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._fresh_for = FRESH_SECONDS if store.shared else math.inf
        self._known: dict[Kind, _Read] = {}
        self._reading: dict[Kind, asyncio.Task[_Read]] = {}

    async def policy(self, kind: Kind) -> ActivePolicy:
        """The policy in force for a kind of evidence.

        Raises:
            UnavailableError: ``store.unavailable``.
        """
        asked = asyncio.get_running_loop().time()
        known = self._known.get(kind)
        while known is None or asked >= known.began + self._fresh_for:
            known = await self._read(kind)
        return known.active

    def forget(self, kind: Kind) -> None:
        """This process has changed the stored policy; a reading under way may have seen the one before."""
        self._known.pop(kind, None)
        self._reading.pop(kind, None)

    async def settled(self) -> None:
        """Wait until no replica decides by what was in force at the call."""
        if self._store.shared:
            await asyncio.sleep(FRESH_SECONDS)

    async def _read(self, kind: Kind) -> _Read:
        """Read, or share what others are reading; that may have begun too early, and then it is read once more."""
        reading = self._reading.get(kind)
        if reading is None:
            reading = self._reading[kind] = asyncio.create_task(self._load(kind), name="policy")
            reading.add_done_callback(lambda task: self._done(kind, task))
        return await asyncio.shield(reading)

    def _done(self, kind: Kind, task: asyncio.Task[_Read]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._reading.get(kind) is not task:
            return  # it is older than a change
        del self._reading[kind]
        if not failed:
            self._known[kind] = task.result()

    async def _load(self, kind: Kind) -> _Read:
        began = asyncio.get_running_loop().time()
        jws = await self._store.policy(self._config.name, kind)
        known = self._known.get(kind)
        active = known.active if known is not None and known.jws == jws else _active(jws, self._config.default_policy)
        return _Read(began=began, jws=jws, active=active)


def _active(stored: str | None, default: str) -> ActivePolicy:
    if stored is None:
        return ActivePolicy(document=PolicyDocument.parse(default), signer=None)
    jws = PolicyJws.parse(stored)
    return ActivePolicy(document=PolicyDocument.parse(jws.policy_text()), signer=jws.signer)
