"""What is asked of the attestation application: its tenants, quotes of one make-believe platform, its records."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from bastide.attest.audit import verify_chain
from bastide.attest.ports import AuditRecord, Store
from bastide.attest.tenants import TenantConfig
from bastide.token.jwks import Jwks
from support import sgx_values
from support.attest_app import Answer, Client, admin_rule
from support.evidence import world

URL = "https://attest.example.org/simulation"
PERMIT = "version=1.0;authorizationrules{=>permit();};"
DENY = 'version=1.0;authorizationrules{c:[type=="x-ms-sgx-svn"] => deny();};'
TRIES = 3


def tenant(name: str = "default", **changes: Any) -> TenantConfig:
    issuer = URL if name == "default" else f"{URL}/{name}"
    return TenantConfig(
        name=name, issuer=issuer, **{"admins": (admin_rule(), admin_rule("the-reader", "reader")), **changes}
    )


def quote(data: bytes = b"data", **attributes: Any) -> bytes:
    report = replace(sgx_values.report_body(), report_data=hashlib.sha256(data).digest() + bytes(32))
    return world().quote(replace(report, **attributes)).build()


def attesting(
    raw: bytes, path: str = "/simulation/attest/SgxEnclave", **members: Any
) -> Callable[[Client], Awaitable[Answer]]:
    return lambda client: client.attest(raw, path=path, **members)


def sending(*arguments: Any, **keywords: Any) -> Callable[[Client], Awaitable[Answer]]:
    return lambda client: client.send(*arguments, **keywords)


def records(store: Store, name: str = "default") -> list[dict[str, Any]]:
    found: Sequence[AuditRecord] = asyncio.run(store.audit(name, "main", after=0, limit=100))
    assert verify_chain(name, "main", found, keys=Jwks(keys=())).whole
    bodies = [json.loads(record.body) for record in found]
    assert bodies[0]["act"] == "keys.turn", "the first thing that a tenant does is to make a key"
    return bodies[1:]
