"""A served attestation service for tests: on loopback, on a free port, for as long as a ``with`` lasts."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import RSAKey

from bastide.attest.server import Listening, ServerOptions, serve
from bastide.dcap import Collateral
from support.dcap_vectors import PARTS
from support.evidence import World, world_at
from support.tokens import rsa_key

ADMIN_ISSUER = "https://identity.example.org"
ADMIN_AUDIENCE = "https://attest.example.org"
_START_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server."""

    url: str
    ca: str
    data: Path


@cache
def live_world() -> World:
    """A make-believe platform certified a day ago by the real clock: unmodified clients look at it."""
    return world_at(datetime.now(UTC).replace(microsecond=0) - timedelta(days=1))


def write_bundle(folder: Path, collateral: Collateral) -> Path:
    """A bundle of collateral as the service reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in PARTS.items():
        (folder / name).write_bytes(getattr(collateral, part))
    return folder


def options(folder: Path, **changes: object) -> ServerOptions:
    """Options for a server of the live world, administrators' tokens of ``admin_token`` count."""
    write_bundle(folder / "collateral" / "live", live_world().collateral)
    usual = ServerOptions(
        host="127.0.0.1",
        port=0,
        data=folder / "data",
        collateral=folder / "collateral",
        root=live_world().root,
        tenants={"default": tenant_file(folder, "default")},
    )
    return replace(usual, **changes)


def tenant_file(folder: Path, name: str, text: str = "") -> Path:
    """A tenant's configuration file with an administrator and a reader; ``text`` comes first."""
    key = RSAKey.import_key(rsa_key("admin"), {"kid": "admin-1", "use": "sig"})
    (folder / "admins.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    tables = "".join(
        f'[[admin]]\nissuer = "{ADMIN_ISSUER}"\naudience = "{ADMIN_AUDIENCE}"\njwks = "admins.json"\n'
        f'role = "{role}"\nclaims = {{ sub = "{subject}" }}\n'
        for role, subject in (("admin", "the-admin"), ("reader", "the-reader"))
    )
    file = folder / f"{name}.toml"
    file.write_text(text + tables)
    return file


def admin_token(subject: str = "the-admin", *, at: datetime | None = None, **claims: object) -> str:
    """A bearer token of the issuer that the tenants' files name."""
    now = int((at or datetime.now(UTC)).timestamp())
    body = {"iss": ADMIN_ISSUER, "aud": ADMIN_AUDIENCE, "sub": subject, "exp": now + 3600, "nbf": now - 10, **claims}
    key = RSAKey.import_key(rsa_key("admin"))
    return jwt.encode({"alg": "RS256", "kid": "admin-1"}, body, key)


@contextlib.contextmanager
def served(given: ServerOptions, **arguments: object) -> Iterator[Served]:
    """Serve until the ``with`` ends; the server's own failure is raised there."""
    begun, failures = threading.Event(), []
    told: list[Listening] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def started(listening: Listening) -> None:
        told.append(listening)
        begun.set()

    def work() -> None:
        try:
            loop.run_until_complete(serve(given, started, stop=stop, **arguments))
            loop.run_until_complete(_drop_connections(loop))
        except BaseException as error:  # noqa: BLE001 - carried to the test
            failures.append(error)
        finally:
            loop.close()
            begun.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    begun.wait(_START_SECONDS)
    try:
        if told:
            certificate = told[0].certificate
            yield Served(url=told[0].url, ca=str(certificate), data=given.data)
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)
    if failures:
        raise failures[0]


async def _drop_connections(loop: asyncio.AbstractEventLoop) -> None:
    """Clients that keep their connection never say goodbye; a process would end here, a loop has to let go of them."""
    await asyncio.sleep(0.05)
    for transport in list(loop._transports.values()):  # type: ignore[attr-defined]
        transport.abort()
    await asyncio.sleep(0.05)
