"""Replicas of the attestation service in this process, on one real database, at a time that the test says."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bastide.attest.collateral.directory import CollateralDirectory
from bastide.attest.http.app import App
from bastide.attest.running import Service
from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.attest.store.postgres import PostgresStore
from bastide.attest.store.sealing import KeySeal
from bastide.attest.tenants import TenantConfig
from bastide.pki.chain import TrustAnchor
from support import sgx_values
from support.attest_app import Client, admin_rule
from support.attest_server import write_bundle
from support.evidence import world
from support.postgres import fresh_database
from support.tokens import NOW

URL = "https://attest.example.org/simulation"
ATTEST = "/simulation/attest/SgxEnclave"
SEAL = KeySeal(bytes(32))


@dataclass
class Now:
    """A clock that is put forward by hand."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at


class Replicas:
    """As many services on one database as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Now()
        self.url: DatabaseUrl = fresh_database()
        write_bundle(folder / "live", world().collateral)

    def run(
        self, work: Callable[..., Awaitable[Any]], config: TenantConfig, *, many: int = 2, start: bool = True
    ) -> None:
        async def go() -> None:
            services = [await self.service(config, f"replica-{number}") for number in range(many)]
            try:
                if start:
                    await asyncio.gather(*(service.start() for service in services))
                await work(*(Client(App(service), service) for service in services))
            finally:
                for service in services:
                    await service.close()

        asyncio.run(go())

    async def service(
        self, config: TenantConfig, writer: str, root: TrustAnchor | None = None, seal: KeySeal = SEAL
    ) -> Service:
        trusted = root or world().root
        return Service(
            [config],
            store=await PostgresStore.open(self.url, seal),
            collateral=CollateralDirectory(self.folder, trusted),
            root=trusted,
            clock=self.clock,
            writer=writer,
        )


def tenant(**changes: Any) -> TenantConfig:
    return TenantConfig(name="default", issuer=URL, **{"admins": (admin_rule(),), **changes})


def quote() -> bytes:
    return world().quote(sgx_values.report_body()).build()


async def shown(client: Client) -> list[str]:
    """The ids of the keys in the key set."""
    return [key["kid"] for key in (await client.send("GET", "/simulation/certs")).json["keys"]]


async def turn(*clients: Client) -> None:
    await asyncio.gather(*(client.service.desks["default"].tenant.turn_keys() for client in clients))
