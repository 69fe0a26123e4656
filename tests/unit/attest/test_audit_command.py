"""``bastide attest audit`` on a data directory and on an export."""

import asyncio
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bastide.attest.audit import Entry
from bastide.attest.auditlog import AuditLog
from bastide.attest.keys import make_key
from bastide.attest.store.sqlite import SqliteStore
from bastide.cli import invoke
from support.tokens import ISSUER

NOW = datetime.now(UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "attest.sqlite")
        await store.commit([make_key("default", ISSUER, now=NOW, active_from=NOW)])
        log = AuditLog(store, writer="main", clock=lambda: NOW)
        for number in range(4):
            await log.append(Entry(tenant="default", act="attest", request=f"r{number}", outcome="allowed"))
        await store.close()

    asyncio.run(fill())
    return tmp_path


def _audit(*arguments: str | Path) -> int:
    return invoke(["attest", "audit", *map(str, arguments)])


def _cut(data: Path) -> None:
    connection = sqlite3.connect(data / "attest.sqlite")
    connection.execute("DELETE FROM audit_record WHERE seq > 2")
    connection.commit()
    connection.close()


def test_a_whole_log_is_0_and_a_changed_one_3(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _audit("verify", "--data", data) == 0
    assert capsys.readouterr().out == "default/main: 4 records, 0 checkpoints: whole\n"
    connection = sqlite3.connect(data / "attest.sqlite")
    connection.execute("UPDATE audit_record SET body = replace(body, 'r1', 'r9') WHERE seq = 2")
    connection.commit()
    connection.close()
    assert _audit("verify", "--data", data, "--json") == 3
    (chain,) = json.loads(capsys.readouterr().out)["chains"]
    assert [fault["name"] for fault in chain["faults"]] == ["audit.changed"]


def test_a_gap_is_3(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connection = sqlite3.connect(data / "attest.sqlite")
    connection.execute("DELETE FROM audit_record WHERE seq = 2")
    connection.commit()
    connection.close()
    assert _audit("verify", "--data", data) == 3
    assert "NOT WHOLE" in capsys.readouterr().out


def test_an_export_verifies_and_its_last_line_shows_a_cut_later(
    data: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert _audit("export", "--data", data) == 0
    exported = tmp_path / "log.jsonl"
    exported.write_bytes(capfdbinary.readouterr().out)
    assert _audit("verify", exported) == 0
    kept = tmp_path / "kept"
    last = exported.read_bytes().splitlines()[-1]
    kept.write_bytes(last)
    _cut(data)
    assert _audit("verify", "--data", data) == 0, "by itself a log cannot show it"
    assert _audit("verify", "--data", data, "--checkpoint", kept) == 3
    kept.write_text(json.loads(last)["checkpoint"])
    assert _audit("verify", "--data", data, "--checkpoint", kept) == 3


@pytest.mark.parametrize(
    "arguments",
    [("verify",), ("verify", "x", "--data", "y"), ("verify", "absent"), ("export", "--data", "absent")],
)
def test_a_command_line_without_a_log_is_bad_input(arguments: tuple[str, ...]) -> None:
    assert _audit(*arguments) == 2


def test_a_tenant_that_is_not_there_is_bad_input(data: Path) -> None:
    assert _audit("verify", "--data", data, "--tenant", "nobody") == 2
