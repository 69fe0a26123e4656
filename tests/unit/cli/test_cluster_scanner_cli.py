import base64
import json
from dataclasses import asdict

import pytest

from bastide.cli.cluster_scanner import command
from bastide.cli.failures import EXIT_NO
from bastide.cluster.scanner.confine import seccomp
from bastide.cluster.scanner.confine.linux import PR_SET_DUMPABLE, prctl, syscall
from bastide.cluster.scanner.confine.lock import available
from bastide.errors import BastideError, ConfigError, ConflictError, MalformedError, PolicyError, UnavailableError
from support.enclave_files import signed_intel_enclave
from support.escapes import PR_GET_DUMPABLE, PRCTL
from support.images import Member, layout, tar
from support.registry import fake_registry

IMAGE = layout([tar(Member("app/e.signed.so", signed_intel_enclave()))])


@pytest.fixture
def registry():
    with fake_registry() as served:
        served.put(IMAGE)
        yield served


def _run(capsys, *arguments: object) -> tuple[int, str]:
    code = command.main([str(one) for one in arguments], prog_name="scanner", standalone_mode=False)
    return code, capsys.readouterr().out


def _once(registry, reference, tmp_path, *more):
    return (
        "--private-registry",
        f"http://{registry.host}",
        "--work",
        tmp_path,
        "--once",
        registry.image(reference).build(),
        *more,
    )


def test_one_image_is_shown_to_people(registry, tmp_path, capsys):
    code, out = _run(capsys, *_once(registry, ":1", tmp_path))
    assert code == 0
    for words in (IMAGE.manifest_digest, "enclaves: 1", "/app/e.signed.so", "intel-sdk", "as measured", "of EPC"):
        assert words in out
    assert not list(tmp_path.iterdir())


def test_what_holds_the_reader_is_said_and_required(registry, tmp_path, capsys, monkeypatch):
    prctl(PR_SET_DUMPABLE, 1)
    _, out = _run(capsys, *_once(registry, ":1", tmp_path))
    assert f"read behind: {available()}" in out
    assert syscall(PRCTL, PR_GET_DUMPABLE) == 0
    asked = len(registry.asked)
    monkeypatch.setattr(seccomp, "is_available", lambda: False)
    with pytest.raises(UnavailableError) as caught:
        _run(capsys, *_once(registry, ":1", tmp_path))
    assert caught.value.code == "scanner.confine.calls"
    assert len(registry.asked) == asked
    code, out = _run(capsys, *_once(registry, ":1", tmp_path, "--allow-unconfined"))
    assert code == 0
    assert "no filter of system calls" in out


def test_one_image_is_shown_to_programs(registry, tmp_path, capsys):
    code, out = _run(capsys, *_once(registry, ":1", tmp_path, "--json"))
    tree = json.loads(out)
    assert code == 0
    assert tree["image"].endswith(f"@{IMAGE.manifest_digest}")
    assert tree["report"]["manifests"][0]["enclaves"][0]["path"] == "/app/e.signed.so"
    assert tree["pulledBytes"] > 0
    assert tree["confinement"] == asdict(available())
    assert set(tree["seconds"]) == {"referrers", "pull", "search", "measure"}


def test_an_image_that_cannot_be_looked_into_is_a_no(registry, tmp_path, capsys):
    code, out = _run(capsys, *_once(registry, ":1", tmp_path, "--most-image", "100"))
    assert code == EXIT_NO
    assert "scanner.image.size" in out


def test_credentials_come_from_a_file(registry, tmp_path, capsys):
    registry.answerer = lambda asked, exchange: (
        not asked.authorization and (exchange.reply(401, b"", WWW_Authenticate='Basic realm="r"') or True)
    )
    with pytest.raises(ConflictError) as caught:
        _run(capsys, *_once(registry, ":1", tmp_path))
    assert caught.value.code == "scanner.registry.unauthorised"
    (tmp_path / "work").mkdir()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"a:b").decode()}}}))
    code, _ = _run(capsys, *_once(registry, ":1", tmp_path / "work", "--docker-config", config))
    assert code == 0
    assert registry.asked[-1].authorization == f"Basic {base64.b64encode(b'a:b').decode()}"


@pytest.mark.parametrize(
    ("arguments", "family", "code"),
    [
        (["--once", "ubuntu"], ConfigError, "scanner.registry.none"),
        (["--registry", "good.example", "--once", "evil.example/app"], PolicyError, "scanner.registry.unlisted"),
        (["--registry", "good.example", "--once", "no image"], MalformedError, "image.space"),
        (
            ["--registry", "*", "--registry-ca-cert", "/absent", "--once", "a.example/b"],
            ConfigError,
            "scanner.registry.ca-file",
        ),
        (["--registry", "*", "--most-image", "0", "--once", "ubuntu"], MalformedError, "cluster.scanner.size"),
        (["--registry", "*"], ConfigError, "cluster.scanner.caller"),
        (["--registry", "*", "--caller", "ns/name", "--listen", "x"], ConfigError, "cluster.scanner.listen"),
    ],
)
def test_mistakes_are_named(arguments, family, code, capsys):
    with pytest.raises(BastideError) as caught:
        _run(capsys, *arguments)
    assert isinstance(caught.value, family)
    assert caught.value.code == code
