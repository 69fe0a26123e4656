"""The attestation application without a server: requests go straight into it, time is what the test says."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from joserfc.jwk import RSAKey

from bastide.attest.collateral.directory import CollateralDirectory
from bastide.attest.http.app import App
from bastide.attest.ports import Store
from bastide.attest.running import Service
from bastide.attest.store.memory import MemoryStore
from bastide.attest.tenants import AdminRule, Role, TenantConfig
from bastide.pki.chain import TrustAnchor
from support.attest_server import ADMIN_AUDIENCE, ADMIN_ISSUER
from support.recorded import base64url
from support.signers import b64
from support.tokens import rsa_key

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def claims(self) -> dict[str, Any]:
        """The body of the token in the answer."""
        return json.loads(base64url(self.json["token"].split(".")[1]))


class Client:
    """Sends requests into an application."""

    def __init__(self, app: App, service: Service) -> None:
        self.app = app
        self.service = service

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        bearer: str = "",
        client: str = "127.0.0.1",
    ) -> Answer:
        raw, _, query = path.partition("?")
        headers = [(b"content-type", content_type.encode())]
        if bearer:
            headers.append((b"authorization", f"Bearer {bearer}".encode()))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": raw,
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "scheme": "https",
            "client": (client, 1),
            "server": ("127.0.0.1", 443),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return Answer(
            status=sent[0]["status"],
            headers={name.decode().lower(): value.decode() for name, value in sent[0]["headers"]},
            body=b"".join(message.get("body", b"") for message in sent[1:]),
        )

    async def attest(self, quote: bytes, *, path: str = "/attest/SgxEnclave", **members: Any) -> Answer:
        return await self.send("POST", path, json.dumps({"quote": b64(quote), **members}).encode())


def with_app(
    configs: Sequence[TenantConfig],
    work: Callable[[Client], Awaitable[T]],
    *,
    collateral: Path,
    root: TrustAnchor,
    clock: Callable[[], datetime],
    store: Store | None = None,
) -> T:
    """Start a service, let ``work`` use it, close it."""

    async def go() -> T:
        service = Service(
            configs,
            store=store or MemoryStore(),
            collateral=CollateralDirectory(collateral, root),
            root=root,
            clock=clock,
        )
        try:
            await service.start()
            return await work(Client(App(service), service))
        finally:
            await service.close()

    return asyncio.run(go())


@dataclass(frozen=True, eq=False)
class FixedKeys:
    """An issuer's keys that never change."""

    keys: dict[str, Any]

    def at_hand(self, now: datetime) -> dict[str, Any]:
        return self.keys

    def refresh(self, now: datetime, *, wanted: bool = False) -> None:
        """There is nothing to look for."""


def admin_rule(subject: str = "the-admin", role: str = "admin") -> AdminRule:
    """A rule for the tokens of ``admin_token``."""
    key = RSAKey.import_key(rsa_key("admin"), {"kid": "admin-1"})
    return AdminRule(
        issuer=ADMIN_ISSUER,
        audience=ADMIN_AUDIENCE,
        keys=FixedKeys({"keys": [key.as_dict(private=False)]}),
        claims={"sub": subject},
        role=Role(role),
    )
