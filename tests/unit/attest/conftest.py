from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bastide.attest.ports import Store
from bastide.attest.tenants import TenantConfig
from support.attest_app import Client, with_app
from support.attest_server import write_bundle
from support.attest_world import tenant
from support.evidence import world
from support.tokens import NOW


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """``serve(work, *configs, store=..., now=...)`` lets ``work`` use an application; the default tenant is there."""
    write_bundle(tmp_path / "live", world().collateral)

    def run(
        work: Callable[[Client], Awaitable[Any]],
        *configs: TenantConfig,
        store: Store | None = None,
        now: datetime = NOW,
    ) -> Any:
        named = {config.name: config for config in (tenant(), *configs)}
        return with_app(
            list(named.values()), work, collateral=tmp_path, root=world().root, clock=lambda: now, store=store
        )

    return run
