"""Credential plugins, by a made-up one."""

import json
import shlex
import sys
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from bastide.errors import BastideError, ConfigError, UnavailableError
from bastide.kube.access import of_kubeconfig
from bastide.kube.exec_credential import LARGEST_OUTPUT, Credentials, Plugin
from support.kube_tls import self_signed

V1 = "client.authentication.k8s.io/v1"
BETA = "client.authentication.k8s.io/v1beta1"
NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)


@pytest.fixture
def plugin(tmp_path):
    """Makes a plugin of Python code; ``said`` is what it prints as status."""

    def make(code="", *, said=None, version=V1, cluster=None, **config):
        script = tmp_path / "plugin.py"
        if said is not None:
            code += f"\nprint({json.dumps({'kind': 'ExecCredential', 'apiVersion': version, 'status': said})!r})"
        script.write_text(f"import json, os, sys, time\n{code}\n")
        wrapper = tmp_path / "plugin"
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I {shlex.quote(str(script))} "$@"\n')
        wrapper.chmod(0o700)
        tree = {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never", **config}
        return Plugin.parse(tree, cluster or {}, tmp_path / "config")

    return make


@pytest.mark.parametrize("version", [V1, BETA])
def test_a_plugin_says_a_token_and_until_when(plugin, version):
    said = plugin(said={"token": "t", "expirationTimestamp": "2026-11-23T19:00:00Z"}, version=version).ask()
    assert (said.token, said.ends) == ("t", NOW + timedelta(hours=1))
    assert "token" not in repr(said)


def test_arguments_and_environment_reach_it_as_they_are_and_no_shell_reads_them(plugin, tmp_path):
    code = (
        "open(sys.argv[1], 'w').write(json.dumps([sys.argv[2:], os.environ['X'], os.environ['KUBERNETES_EXEC_INFO']]))"
    )
    seen = tmp_path / "seen"
    plugin(
        code,
        said={"token": "t"},
        args=[str(seen), "$(id)", "a b;c", "*"],
        env=[{"name": "X", "value": "$HOME"}],
        provideClusterInfo=True,
        cluster={"server": "https://x"},
    ).ask()
    arguments, x, info = json.loads(seen.read_text())
    assert (arguments, x) == (["$(id)", "a b;c", "*"], "$HOME")
    assert json.loads(info) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": "https://x"}},
    }


def test_the_cluster_is_told_only_where_the_kubeconfig_says_so(plugin, tmp_path):
    code = "open(sys.argv[1], 'w').write(os.environ['KUBERNETES_EXEC_INFO'])"
    plugin(code, said={"token": "t"}, args=[str(tmp_path / "seen")], cluster={"server": "https://x"}).ask()
    assert "cluster" not in json.loads((tmp_path / "seen").read_text())["spec"]


def test_it_is_asked_again_when_the_token_ends_and_not_before(plugin, tmp_path):
    code = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    now = [NOW]
    made = plugin(code, said={"token": "t", "expirationTimestamp": "2026-11-23T19:00:00+00:00"})
    credentials = Credentials(made, now=lambda: now[0])

    def runs():
        assert credentials.token() == "t"
        return len((tmp_path / "runs").read_text())

    assert [runs(), runs()] == [1, 1]
    now[0] += timedelta(hours=1)
    assert runs() == 2


def said(status, version=V1):
    """Code that prints an answer."""
    return f"print({json.dumps({'kind': 'ExecCredential', 'apiVersion': version, 'status': status})!r})"


@pytest.mark.parametrize(
    "code",
    [
        "print('s3cret')",
        "print('[' * 100000)",
        said({"token": "s3cret"}, version="v1"),
        said({"token": "s3cret"}, version=BETA),
        said({}),
        said({"token": "s3cret\n"}),
        said({"clientKeyData": "s3cret"}),
        said({"token": "s3cret", "expirationTimestamp": "never"}),
        said({"token": "s3cret", "expirationTimestamp": "2026-11-23T19:00:00"}),
        said({"token": "s3cret"}) + f"; print(' ' * {LARGEST_OUTPUT})",
    ],
)
def test_answers_that_are_none_are_refused_without_repeating_them(plugin, code):
    with pytest.raises(ConfigError) as refused:
        plugin(code, args=["s3cret"], env=[{"name": "X", "value": "s3cret"}]).ask()
    assert refused.value.code == "kube.exec.answer"
    assert "s3cret" not in f"{refused.value} {refused.value.hint}"


def test_a_plugin_that_fails_is_told_of_by_its_status(plugin):
    with pytest.raises(UnavailableError, match="status 7") as refused:
        plugin("print('s3cret'); sys.exit(7)", args=["s3cret"]).ask()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "code", ["time.sleep(60)", "os.close(1); time.sleep(60)", "print('x', flush=True); time.sleep(60)"]
)
def test_a_plugin_that_does_not_end_is_ended(plugin, code):
    with pytest.raises(UnavailableError) as refused:
        plugin(code).ask(seconds=0.5)
    assert refused.value.code == "kube.exec.timeout"


def test_a_plugin_that_is_not_there_brings_the_hint_of_the_kubeconfig(plugin):
    with pytest.raises(ConfigError) as refused:
        plugin(command="bastide-no-such-plugin", installHint="see https://example.org").ask()
    assert (refused.value.code, refused.value.hint) == ("kube.exec.command", "see https://example.org")


def test_a_plugin_that_must_ask_a_person_is_not_run_without_one(plugin, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigError) as refused:
        plugin(said={"token": "t"}, interactiveMode="Always").ask()
    assert refused.value.code == "kube.exec.interactive"


@pytest.mark.parametrize(
    "wrong",
    [
        {"apiVersion": "client.authentication.k8s.io/v1alpha1"},
        {"apiVersion": None},
        {"command": ""},
        {"command": 3},
        {"command": "a\0b"},
        {"interactiveMode": "Sometimes"},
        {"args": [1]},
        {"args": ["a\0b"]},
        {"env": [{"value": "x"}]},
        {"env": [{"name": "A=B", "value": "x"}]},
    ],
)
def test_refuses_a_plugin_that_cannot_be_run(plugin, wrong):
    with pytest.raises(ConfigError) as refused:
        plugin(**wrong)
    assert refused.value.code == "kube.exec.config"


def kubeconfig(folder, version=V1):
    tree = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://x"}}],
        "users": [{"name": "u", "user": {"exec": {"apiVersion": version, "command": "./plugin", "args": ["x"]}}}],
    }
    (folder / "config").write_text(yaml.safe_dump(tree))
    return folder / "config"


def test_a_kubeconfig_with_a_plugin_serves_people_and_no_process(plugin, tmp_path):
    plugin(f"open({str(tmp_path / 'ran')!r}, 'w')", said={"token": "t"})
    with pytest.raises(ConfigError, match="commands of people only"):
        of_kubeconfig(kubeconfig(tmp_path))
    assert not (tmp_path / "ran").exists()
    access = of_kubeconfig(kubeconfig(tmp_path), attended=True)
    assert access.authorization() == {"Authorization": "Bearer t"}


def test_a_plugin_may_say_a_client_certificate(plugin, tmp_path):
    certificate, key = (part.decode() for part in self_signed(["me"]))
    plugin(said={"clientCertificateData": certificate, "clientKeyData": key})
    assert of_kubeconfig(kubeconfig(tmp_path), attended=True).authorization() == {}
    plugin(said={"clientCertificateData": certificate, "clientKeyData": "s3cret"})
    with pytest.raises(BastideError) as refused:
        of_kubeconfig(kubeconfig(tmp_path), attended=True)
    assert refused.value.code == "kube.access.certificate"
    assert "s3cret" not in str(refused.value)
