"""Who may administer one tenant: whoever shows a bearer token or a client certificate that one of its rules names."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial

from bastide.attest.bearer import Principal, authenticate, lacking
from bastide.attest.clientcert import identify
from bastide.attest.ports import Clock
from bastide.attest.tenants import KeySource, TenantConfig
from bastide.errors import BastideError, UnavailableError, UntrustedError


class Doorkeeper:
    """The door of one tenant; its issuers' keys are looked for beside the requests, and when a token needs them.

    Args:
        config: the tenant.
        clock: the time.
        executor: where files are read and issuers are asked; not that in which quotes are judged.
        report: told what goes wrong with keys.
    """

    def __init__(
        self, config: TenantConfig, *, clock: Clock, executor: Executor, report: Callable[[BastideError], None]
    ) -> None:
        self._config, self._clock, self._executor, self._report = config, clock, executor, report
        self._sources = tuple(dict.fromkeys(rule.keys for rule in config.admins))
        self._revocations = tuple(rule.revocation for rule in config.certificate_admins if rule.revocation is not None)
        self._looking = asyncio.Lock()
        self.faults = 0
        """How often keys or revocations that should have been read could not be, since the start."""

    async def bearer(self, token: str) -> Principal:
        """Whose token it is. One that names a key which is not at hand makes us ask its issuer, now and then.

        Raises:
            UntrustedError: ``attest.bearer.*``.
            UnavailableError: ``attest.issuer-keys.unavailable``.
        """
        now = self._clock()
        try:
            return authenticate(token, self._config.admins, now)
        except (UntrustedError, UnavailableError):
            sources = lacking(token, self._config.admins, now)
            if not sources:
                raise
        await self._look(sources, wanted=True)
        return authenticate(token, self._config.admins, self._clock())

    def certificate(self, raw: bytes) -> Principal:
        """Whose client certificate (PEM) it is.

        Raises:
            UntrustedError: ``attest.certificate.*``.
        """
        return identify(raw, self._config.certificate_admins, self._clock())

    async def refresh(self) -> None:
        """Look for newer keys and revocations where it is time to."""
        await self._look(self._sources, wanted=False)
        for revocation in self._revocations:
            await self._try(revocation.refresh)

    async def _look(self, sources: Iterable[KeySource], *, wanted: bool) -> None:
        async with self._looking:  # many tokens at once ask an issuer once
            for source in sources:
                await self._try(partial(source.refresh, self._clock(), wanted=wanted))

    async def _try(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except BastideError as error:
            self.faults += 1
            self._report(error)
