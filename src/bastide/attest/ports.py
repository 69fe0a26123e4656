"""What the service asks of the world: a store that keeps, a source of collateral, a clock.

Everything that is written goes through one call, ``Store.commit``: a batch is kept whole or not at all, and is on the
disk when the call returns. So an administrative act and its audit record cannot come apart.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from bastide.dcap import PreparedCollateral
from bastide.sgx.quote import Quote, QuoteParts

HASH_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Something the store must remember about itself, such as the root that it was made under."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A token-signing key of a tenant.

    Attributes:
        tenant: its name.
        kid: key id.
        private_key: PKCS#8 in PEM; None once the key is retired, when only its certificate is of use.
        certificate: DER.
        published_at: when the key set first showed it; whole seconds, aware UTC.
        active_from: from when it signs; likewise.
    """

    tenant: str
    kid: str
    private_key: bytes | None = field(repr=False)
    certificate: bytes = field(repr=False)
    published_at: datetime
    active_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """The policy of a tenant for one kind of evidence, its JWS as sent."""

    tenant: str
    kind: str
    jws: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRemoved:
    """The policy goes; the default counts again."""

    tenant: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """A certificate (DER) whose key may sign a tenant's policies; ``thumbprint`` is SHA-1 of it in upper hex."""

    tenant: str
    thumbprint: str
    certificate: bytes = field(repr=False)
    added_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRemoved:
    """The certificate goes."""

    tenant: str
    thumbprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One record of a chain.

    Attributes:
        tenant: its name.
        writer: the process that wrote; each has a chain of its own.
        seq: from 1 without gaps.
        body: canonical JSON; names the hash of the record before.
        hash: SHA-256 of ``body``, 32 bytes.
    """

    tenant: str
    writer: str
    seq: int
    body: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed statement that a chain had reached ``seq``."""

    tenant: str
    writer: str
    seq: int
    jws: str


Write = (
    Setting
    | KeyRecord
    | PolicyRecord
    | PolicyRemoved
    | CertificateRecord
    | CertificateRemoved
    | AuditRecord
    | Checkpoint
)
"""What can be written. Settings, keys and policies replace what has the same key; a certificate that is there stays as
it is; audit records and checkpoints never replace anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The last record of one chain."""

    tenant: str
    writer: str
    seq: int
    hash: bytes


class Store(Protocol):
    """Keeps what must outlive the process. Every method may raise UnavailableError ``store.unavailable``."""

    @property
    def shared(self) -> bool:
        """Other processes write here too, so what was read a while ago may no longer be so."""

    def alone(self, what: str) -> AbstractAsyncContextManager[None]:
        """Of all that ask for the same ``what``, in this process and in others, one at a time is let in.

        Whoever is let in commits with ``commit`` as usual. Nobody may ask again for what they already have.
        """

    async def commit(self, writes: Sequence[Write]) -> None:
        """Keep all of ``writes`` or none; durable on return.

        Raises:
            ConflictError: ``store.conflict``: an audit record or checkpoint of that number is there already.
        """

    async def setting(self, name: str) -> str | None:
        """A setting's value."""

    async def keys(self, tenant: str) -> tuple[KeyRecord, ...]:
        """A tenant's keys, the one that signs first in time first."""

    async def policy(self, tenant: str, kind: str) -> str | None:
        """A policy's JWS."""

    async def certificates(self, tenant: str) -> tuple[CertificateRecord, ...]:
        """A tenant's policy certificates, in the order in which they came."""

    async def chains(self) -> tuple[ChainHead, ...]:
        """The head of every chain, by tenant and writer."""

    async def audit(self, tenant: str, writer: str, *, after: int, limit: int) -> tuple[AuditRecord, ...]:
        """At most ``limit`` records of one chain with numbers above ``after``, in order."""

    async def checkpoints(self, tenant: str) -> tuple[Checkpoint, ...]:
        """A tenant's checkpoints, by writer and number."""

    async def probe(self) -> None:
        """Return if a commit could be kept now, as far as that can be told cheaply."""

    async def close(self) -> None:
        """Let go of files and connections; a second call does nothing."""


class CollateralSource(Protocol):
    """Finds collateral for quotes."""

    def find(self, quote: Quote, at: datetime, *, number: int | None = None) -> PreparedCollateral | None:
        """The collateral to judge ``quote`` with at ``at``; None when there is none for its platform.

        Args:
            quote: parsed.
            at: aware instant.
            number: take only collateral of this tcbEvaluationDataNumber; None for the best there is.

        Raises:
            UnavailableError: ``collateral.upstream.*``: there may be some, and it cannot be had now;
                ``collateral.directory.empty``: there is none for any platform.
        """

    def at_hand(self, parts: QuoteParts, at: datetime) -> PreparedCollateral | None:
        """What ``find`` gives for a platform seen before; never waits, and None does not say that there is none."""

    def absence(self, quote: Quote) -> str:
        """Why ``find`` has found none for ``quote``: what was seen, for people."""


class Clock(Protocol):
    """Tells the time."""

    def __call__(self) -> datetime:
        """Now, aware UTC."""
