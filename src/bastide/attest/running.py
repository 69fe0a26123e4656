"""The service of one process: its tenants, and the work that goes on beside the requests."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Protocol

from bastide.attest.administration import Administration
from bastide.attest.auditlog import AuditLog
from bastide.attest.collateral.catalogue import Bundle
from bastide.attest.doorkeeper import Doorkeeper
from bastide.attest.issuer import check_issuer
from bastide.attest.limits import RateLimit
from bastide.attest.ports import ChainHead, Clock, CollateralSource, Setting, Store
from bastide.attest.tenant import Surroundings, Tenant
from bastide.attest.tenants import Mode, TenantConfig
from bastide.attest.verifiers import Verifiers
from bastide.errors import BastideError, ConfigError
from bastide.pki.chain import TrustAnchor
from bastide.web.clients import client_name

ROOT_SETTING = "root"
_COLLATERAL_SECONDS = 5.0
KEYS_SECONDS = 600.0
"""How often keys are looked at: far oftener than a new key is published before it signs, so every replica shows it."""

_CHECKPOINT_SECONDS = 60.0
_ADMINS_SECONDS = 5.0
_JITTER = 0.1
_THREADS = 4
_ADMIN_THREADS = 2


class WatchedCollateral(CollateralSource, Protocol):
    """A source of collateral that can look for changes and tell what it has."""

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """What is in use."""

    @property
    def faults(self) -> Mapping[str, str]:
        """What is wrong, by bundle."""

    @property
    def lack(self) -> str | None:
        """Why having no bundle means not being ready; None where it does not."""

    def refresh(self) -> bool:
        """Look for changes; may block on the disk or the network."""


class Desk:
    """A tenant with its administration, its door and its limits."""

    def __init__(
        self, config: TenantConfig, around: Surroundings, collateral: WatchedCollateral, doorkeeper: Doorkeeper
    ) -> None:
        self.config = config
        self._collateral = collateral
        self.tenant = Tenant(config, around)
        self.administration = Administration(self.tenant)
        self.doorkeeper = doorkeeper
        self._all = RateLimit(config.rates.tenant, config.rates.burst)
        self._clients = RateLimit(config.rates.client, config.rates.burst)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The collateral in use."""
        return self._collateral.bundles

    async def start(self) -> None:
        """Make ready."""
        await self.tenant.start()
        await self.administration.start()

    def wait(self, client: str, at: float, *, attests: bool) -> float:
        """Seconds until this client may ask; 0 for now. A client over its limit does not use up its tenant's.

        Attestations have the tenant's limit to themselves, and all else has as much again: while everybody attests, an
        administrator still changes the policy, and tokens are still checked with the published keys.
        """
        return self._clients.take(client_name(client), at) or self._all.take("attest" if attests else "", at)


class Service:
    """All tenants of a process; ``start``, then serve, then ``close``.

    Args:
        configs: the tenants, their names different.
        store: kept open by the caller, closed by ``close``.
        collateral: read once at ``start``, then every few seconds.
        root: whom to trust; a store made under one root refuses to open under another.
        clock: the time.
        writer: name of this process's audit chains.
        report: told what goes wrong beside the requests.
    """

    def __init__(
        self,
        configs: Sequence[TenantConfig],
        *,
        store: Store,
        collateral: WatchedCollateral,
        root: TrustAnchor,
        clock: Clock,
        writer: str = "main",
        report: Callable[[BastideError], None] = lambda _: None,
    ) -> None:
        for config in configs:
            check_issuer(config.issuer, simulation=root.simulation)
            if config.mode is Mode.ISOLATED and not config.signers:
                message = "an isolated tenant needs at least one policy certificate to begin with"
                raise ConfigError("attest.tenant.signers", message, where=config.name)
        self._executor = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="attest")
        self._admin_executor = ThreadPoolExecutor(max_workers=_ADMIN_THREADS, thread_name_prefix="attest-admins")
        self.audit = AuditLog(store, writer=writer, clock=clock)
        self._store = store
        self.collateral = collateral
        self._root = root
        self.clock = clock
        self._report = report
        self._verifiers = Verifiers(root)
        around = Surroundings(
            store=store,
            audit=self.audit,
            collateral=collateral,
            clock=clock,
            verifiers=self._verifiers,
            executor=self._executor,
        )
        self.desks: Mapping[str, Desk] = {
            config.name: Desk(config, around, collateral, self._doorkeeper(config)) for config in configs
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._checked: dict[str, int] = {}  # by tenant, the number of the last checkpoint

    async def start(self) -> None:
        """Bind the store to the root, read collateral, make keys, begin the work beside the requests.

        Raises:
            ConfigError: ``attest.store.root``: the store was made under another root.
        """
        async with self._store.alone("root"):
            await self._bind_store()
        await self._refresh_collateral()
        for desk in self.desks.values():
            await desk.start()
        self._tasks = [
            asyncio.create_task(self._every(_COLLATERAL_SECONDS, self._refresh_collateral), name="collateral"),
            asyncio.create_task(self._every(KEYS_SECONDS, self._turn_keys), name="keys"),
            asyncio.create_task(self._every(_ADMINS_SECONDS, self._refresh_admins), name="administrators"),
            asyncio.create_task(self._every(_CHECKPOINT_SECONDS, self.checkpoint), name="checkpoints"),
        ]

    async def close(self) -> None:
        """Stop the work, sign where the chains end, let the store go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.audit.close()
        try:
            await self.checkpoint()
        except BastideError as error:
            self._report(error)
        await self._store.close()
        self._executor.shutdown()
        self._admin_executor.shutdown(wait=False, cancel_futures=True)  # an issuer may take seconds to answer

    async def checkpoint(self) -> None:
        """Sign and keep how far each chain has come since the last time."""
        fresh = [head for head in await self.audit.heads() if self._is_fresh(head)]
        first = [head.tenant for head in fresh if head.tenant not in self._checked]  # after that we know it ourselves
        known = {(point.writer, point.seq) for tenant in first for point in await self._store.checkpoints(tenant)}
        points = [
            self.desks[head.tenant].tenant.checkpoint(head) for head in fresh if (head.writer, head.seq) not in known
        ]
        if points:
            await self._store.commit(points)
        self._checked.update({head.tenant: head.seq for head in fresh})

    def lacks_collateral(self, now: datetime) -> str:
        """Why nothing can be attested for want of collateral; empty when something can."""
        bundles = self.collateral.bundles
        if not bundles:
            return self.collateral.lack or ""
        if not any(bundle.start <= now < bundle.end for bundle in bundles):
            return f"all collateral has run out, the last at {max(bundle.end for bundle in bundles).isoformat()}"
        return ""

    async def probe_store(self) -> None:
        """Return if decisions can be recorded.

        Raises:
            UnavailableError: ``store.unavailable``.
        """
        await self._store.probe()

    def collateral_age(self, now: datetime) -> timedelta | None:
        """Since when the newest collateral is in force; None when there is none."""
        starts = [bundle.start for bundle in self.collateral.bundles]
        return now - max(starts) if starts else None

    def _is_fresh(self, head: ChainHead) -> bool:
        return head.tenant in self.desks and self._checked.get(head.tenant) != head.seq

    async def _bind_store(self) -> None:
        own = self._root.public_point.hex()
        bound = await self._store.setting(ROOT_SETTING)
        if bound is None:
            await self._store.commit([Setting(name=ROOT_SETTING, value=own)])
        elif bound != own:
            raise ConfigError(
                "attest.store.root",
                f"this store was made under another root key than that of {self._root.name}",
                hint="a simulation and real hardware never share a store: use another --data directory",
            )

    async def _refresh_collateral(self) -> None:
        changed = await asyncio.get_running_loop().run_in_executor(self._executor, self.collateral.refresh)
        if changed:
            self._verifiers.keep_only(bundle.prepared for bundle in self.collateral.bundles)

    def _doorkeeper(self, config: TenantConfig) -> Doorkeeper:
        return Doorkeeper(config, clock=self.clock, executor=self._admin_executor, report=self._report)

    async def _refresh_admins(self) -> None:
        for desk in self.desks.values():
            await desk.doorkeeper.refresh()

    async def _turn_keys(self) -> None:
        for desk in self.desks.values():
            try:
                await desk.tenant.turn_keys()
            except BastideError as error:  # one tenant's key that cannot be read must not stop the others' rotation
                self._report(error)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        chance = secrets.SystemRandom()
        while True:
            await asyncio.sleep(seconds * chance.uniform(1 - _JITTER, 1 + _JITTER))
            try:
                await work()
            except BastideError as error:
                self._report(error)
