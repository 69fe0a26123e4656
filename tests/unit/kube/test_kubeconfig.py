"""What kubeconfigs of people hold: tokens, contexts, other names, and servers that are believed unseen."""

import logging
import ssl

import pytest
import yaml

from bastide.errors import ConfigError
from bastide.kube.access import of_kubeconfig
from bastide.kube.client import ApiClient
from support.api_server import api_server
from support.bounded import run_bounded
from support.kube_tls import server_tls


def kubeconfig(folder, *, cluster=None, user=None, server="https://x"):
    path = folder / "config"
    tree = {
        "current-context": "c",
        "contexts": [
            {"name": "c", "context": {"cluster": "k", "user": "u"}},
            {"name": "other", "context": {"cluster": "k2", "user": "u2"}},
        ],
        "clusters": [
            {"name": "k", "cluster": {"server": server, **(cluster or {})}},
            {"name": "k2", "cluster": {"server": "https://second:8443"}},
        ],
        "users": [{"name": "u", "user": user or {}}, {"name": "u2", "user": {"token": "second"}}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_token_that_stands_in_the_kubeconfig_is_shown_and_never_printed(tmp_path):
    access = of_kubeconfig(kubeconfig(tmp_path, user={"token": "s3cret\n"}))
    assert access.authorization() == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(access)


def test_a_token_file_goes_before_a_token(tmp_path):
    (tmp_path / "token").write_text("of-file")
    access = of_kubeconfig(kubeconfig(tmp_path, user={"token": "stale", "tokenFile": "token"}))
    assert access.authorization() == {"Authorization": "Bearer of-file"}


def test_another_context_is_taken_by_name(tmp_path):
    access = of_kubeconfig(kubeconfig(tmp_path), context="other")
    assert (access.host, access.port) == ("second", 8443)
    assert access.authorization() == {"Authorization": "Bearer second"}
    with pytest.raises(ConfigError, match="'third'"):
        of_kubeconfig(kubeconfig(tmp_path), context="third")


def asked_over_tls(tmp_path, names, **cluster):
    tls, ca = server_tls(tmp_path, names)

    async def ask():
        told = (
            {"certificate-authority-data": ca, **cluster}
            if cluster.get("insecure-skip-tls-verify") is None
            else cluster
        )
        path = kubeconfig(tmp_path, cluster=told, server=f"https://127.0.0.1:{api.access.port}")
        client = ApiClient(of_kubeconfig(path, attended=True), chance=lambda: 0.0)
        return await client.get("/api")

    with api_server(lambda _, answer: answer.reply(200, {"good": True}), tls=tls) as api:
        return run_bounded(ask)


def test_a_server_may_have_another_name_where_the_kubeconfig_says_so(tmp_path):
    asked_over_tls(tmp_path, ["api.internal"], **{"tls-server-name": "api.internal"})
    with pytest.raises(Exception, match=r"(?i)certificate"):
        asked_over_tls(tmp_path, ["api.internal"])
    with pytest.raises(Exception, match=r"(?i)mismatch"):
        asked_over_tls(tmp_path, ["api.internal"], **{"tls-server-name": "api.other"})


def test_a_server_is_believed_unseen_only_where_the_kubeconfig_says_so_and_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        asked_over_tls(tmp_path, ["api.internal"], **{"insecure-skip-tls-verify": True})
    assert "insecure-skip-tls-verify" in caplog.text
    assert of_kubeconfig(kubeconfig(tmp_path), attended=True).tls.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("cluster", "attended"),
    [
        ({"insecure-skip-tls-verify": True}, False),
        ({"insecure-skip-tls-verify": "true"}, True),
        ({"insecure-skip-tls-verify": True, "certificate-authority": "ca.crt"}, True),
    ],
)
def test_it_is_refused_for_processes_and_where_it_contradicts_itself(tmp_path, cluster, attended):
    with pytest.raises(ConfigError, match="insecure-skip-tls-verify"):
        of_kubeconfig(kubeconfig(tmp_path, cluster=cluster), attended=attended)


@pytest.mark.parametrize(("where", "name"), [("user", "as"), ("user", "username"), ("cluster", "proxy-url")])
def test_what_is_not_followed_is_refused_and_not_passed_over(tmp_path, where, name):
    with pytest.raises(ConfigError, match=f"{name} is not supported"):
        of_kubeconfig(kubeconfig(tmp_path, **{where: {name: "x"}}), attended=True)
