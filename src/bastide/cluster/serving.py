"""What every HTTPS process of the cluster side does alike: its certificates, kept by whichever replica leads.

The leader makes and renews them in a Secret (``certificate_keeper``); every replica serves what the Secret says.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bastide.cluster.certificate_keeper import CertificateKeeper, KeeperSettings, Publisher
from bastide.kube.client import ApiClient
from bastide.kube.lease import LeaderElection
from bastide.web.tls import ServerTls


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceIdentity:
    """Under which names a process serves, and where its certificates are kept.

    Attributes:
        namespace: of the release.
        service: name of the Service, and of the Lease.
        secret: name of the Secret with the certificates.
        certificates: folder for certificate and key, in memory where possible.
        interval: seconds between two looks at the certificates.
    """

    namespace: str
    service: str
    secret: str
    certificates: Path
    interval: float = 10.0

    @property
    def keeper(self) -> KeeperSettings:
        """What is kept."""
        host = f"{self.service}.{self.namespace}.svc"
        return KeeperSettings(
            namespace=self.namespace,
            secret=self.secret,
            names=(host, f"{host}.cluster.local"),
            folder=self.certificates,
            interval=self.interval,
        )


class OwnCertificates:
    """The certificates of one replica, with the election that says who makes them.

    Args:
        client: of the API server.
        identity: see there.
        publisher: tells those who connect; None where they read the Secret themselves.
        clock: the time, UTC.
        chance: random numbers in [0, 1) for back-offs.
    """

    def __init__(
        self,
        client: ApiClient,
        identity: ServiceIdentity,
        *,
        publisher: Publisher | None,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
    ) -> None:
        replica = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        election = LeaderElection(client, identity.namespace, identity.service, replica, chance=chance)
        self._election = election
        self.keeper = CertificateKeeper(
            client,
            identity.keeper,
            publisher=publisher,
            leads=lambda: election.is_leader,
            clock=clock,
            chance=chance,
        )

    async def run(self) -> None:
        """Keep them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.keeper.run())
            tasks.create_task(self._election.run(_hold))


async def server_tls(
    own: OwnCertificates | None, files: tuple[Path, Path] | None, stop: asyncio.Event | None
) -> ServerTls | None:
    """The certificate to serve with; None where the end comes before there is one.

    Args:
        own: certificates of our own, as soon as they are there.
        files: certificate and key of somebody else, who goes before ours.
        stop: the end.
    """
    if files is not None:
        return ServerTls(*files)
    if own is None:
        return None
    waits: list[asyncio.Future[object]] = [asyncio.ensure_future(own.keeper.loaded())]
    if stop is not None:
        waits.append(asyncio.ensure_future(stop.wait()))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return ServerTls(*own.keeper.files) if waits[0].done() else None
    finally:
        for task in waits:
            task.cancel()


async def _hold() -> None:
    """The leader's work is done by the keeper, which asks whether it leads."""
    await asyncio.Event().wait()
