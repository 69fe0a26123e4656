"""Which cluster a person means."""

import os

import pytest

from bastide.cli.kube_access import persons_access
from bastide.errors import ConfigError

CONFIG = """
current-context: c
contexts: [{{name: c, context: {{cluster: k, user: u}}}}]
clusters: [{{name: k, cluster: {{server: "https://{host}"}}}}]
users: [{{name: u, user: {{}}}}]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Makes kubeconfigs; HOME is the folder, and nothing else is set."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(CONFIG.format(host=path.name))
        return path

    return make


def test_the_command_line_goes_before_the_environment_and_that_before_home(config, monkeypatch):
    config(".kube/config")
    assert persons_access(None, "").host == "config"
    monkeypatch.setenv("KUBECONFIG", str(config("second")))
    assert persons_access(None, "").host == "second"
    assert persons_access(config("first"), "").host == "first"


def test_a_pod_has_its_own_access_though_home_holds_a_kubeconfig(config, monkeypatch):
    config(".kube/config")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigError) as refused:
        persons_access(None, "")
    assert refused.value.code == "kube.access.not_in_pod"


def test_where_no_cluster_is_found_it_says_where_it_looked_and_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError) as refused:
        persons_access(None, "")
    assert refused.value.code == "kube.access.not_in_pod"
    assert f"{tmp_path}/.kube/config" in refused.value.message
    assert "--kubeconfig" in refused.value.hint


def test_of_several_files_in_the_environment_the_one_that_is_there_counts(config, monkeypatch, tmp_path):
    missing = tmp_path / "missing"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", str(missing), str(config("one"))]))
    assert persons_access(None, "").host == "one"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(config("one")), str(config("two"))]))
    with pytest.raises(ConfigError) as refused:
        persons_access(None, "")
    assert refused.value.code == "kube.kubeconfig.several"
    monkeypatch.setenv("KUBECONFIG", str(missing))
    with pytest.raises(ConfigError, match="missing"):
        persons_access(None, "")


def test_a_context_needs_a_kubeconfig(config):
    with pytest.raises(ConfigError) as refused:
        persons_access(None, "c")
    assert refused.value.code == "kube.kubeconfig.context"
    assert persons_access(config("one"), "c").host == "one"
