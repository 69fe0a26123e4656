import asyncio
import base64
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bastide.errors import ConfigError, UnavailableError
from bastide.kube.access import in_cluster, of_kubeconfig
from bastide.kube.client import ApiClient
from support.api_server import api_server, kube_threads
from support.bounded import eventually, run_bounded

_CONTEXT = "current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}]"
_CLUSTER = "clusters: [{name: k, cluster: {server: 'https://x'}}]"
ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def _certificate(name, issuer=None):
    """(PEM of the certificate, PEM of its key, (certificate, key)), signed by ``issuer`` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    plain = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*plain), (certificate, key)


@pytest.fixture(scope="module")
def pki():
    ca, _, issuer = _certificate("ca")
    return {"ca": ca, "server": _certificate("localhost", issuer), "client": _certificate("client", issuer)}


def test_a_pod_finds_server_ca_and_token(tmp_path, pki):
    (tmp_path / "ca.crt").write_bytes(pki["ca"])
    (tmp_path / "token").write_text("t")
    access = in_cluster(ENVIRONMENT, tmp_path)
    assert (access.host, access.port) == ("10.0.0.1", 443)
    assert access.authorization() == {"Authorization": "Bearer t"}
    assert access.tls.verify_mode is ssl.CERT_REQUIRED
    assert access.tls.check_hostname


@pytest.mark.parametrize("environment", [{}, {**ENVIRONMENT, "KUBERNETES_SERVICE_PORT": "x"}])
def test_outside_of_a_pod_there_is_no_access(environment, tmp_path):
    with pytest.raises(ConfigError) as refused:
        in_cluster(environment, tmp_path)
    assert refused.value.code == "kube.access.not_in_pod"


@pytest.mark.parametrize("raw", [None, b"", b"no certificate"])
def test_a_ca_that_is_none_is_refused(tmp_path, raw):
    if raw is not None:
        (tmp_path / "ca.crt").write_bytes(raw)
    with pytest.raises(ConfigError) as refused:
        in_cluster(ENVIRONMENT, tmp_path)
    assert refused.value.code == "kube.access.certificate"


def _kubeconfig(folder, *, server, ca, user):
    path = folder / "config"
    path.write_text(
        f"""
current-context: c
contexts: [{{name: other}}, {{name: c, context: {{cluster: k, user: u}}}}]
clusters: [{{name: k, cluster: {{server: "{server}", certificate-authority-data: "{base64.b64encode(ca).decode()}"}}}}]
users: [{{name: u, user: {user}}}]
"""
    )
    return path


def _tls_server(pki, folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in ("server", "client"):
        (folder / f"{name}.pem").write_bytes(pki[name][0] + pki[name][1])
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(cadata=pki["ca"].decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_kubeconfig_leads_to_the_server_over_tls_with_a_client_certificate(tmp_path, pki):
    (tmp_path / "client.crt").write_bytes(pki["client"][0])
    key = base64.b64encode(pki["client"][1]).decode()

    async def asked():
        server = f"https://localhost:{api.access.port}/prefix"
        user = f"{{client-certificate: client.crt, client-key-data: {key}}}"
        path = _kubeconfig(tmp_path, server=server, ca=pki["ca"], user=user)
        client = ApiClient(of_kubeconfig(path), chance=lambda: 0.0)
        assert await client.get("/api") == {"good": True}
        assert api.asked[0].path == "/prefix/api"
        assert list(tmp_path.glob("bastide-*")) == []

    with api_server(lambda _, answer: answer.reply(200, {"good": True}), tls=_tls_server(pki, tmp_path)) as api:
        run_bounded(asked)


@pytest.mark.parametrize(("host", "own_ca"), [("localhost", False), ("127.0.0.1", True)])
def test_a_server_of_another_ca_or_name_is_not_talked_to(tmp_path, pki, host, own_ca):
    ca = pki["ca"] if own_ca else _certificate("other")[0]

    async def refused():
        path = _kubeconfig(tmp_path, server=f"https://{host}:{api.access.port}", ca=ca, user="{tokenFile: token}")
        (tmp_path / "token").write_text("secret")
        with pytest.raises(UnavailableError, match=r"(?i)certificate"):
            await ApiClient(of_kubeconfig(path), chance=lambda: 0.0).get("/api")
        assert api.asked == []

    with api_server(lambda _, answer: answer.reply(200, {}), tls=_tls_server(pki, tmp_path)) as api:
        run_bounded(refused)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "current-context: c",
        f"{{{_CONTEXT}, clusters: [], users: []}}",
        f"{{{_CONTEXT}, clusters: [{{name: k, cluster: {{server: 'ftp://x'}}}}], users: [{{name: u, user: {{}}}}]}}",
        f"{{{_CONTEXT}, {_CLUSTER}, users: [{{name: u, user: {{exec: {{command: sh}}}}}}]}}",
        f"{{{_CONTEXT}, {_CLUSTER}, users: [{{name: u, user: {{auth-provider: {{name: gcp}}}}}}]}}",
        f"{{{_CONTEXT}, {_CLUSTER}, users: [{{name: u, user: {{token: 'tökén'}}}}]}}",
        f"{{{_CONTEXT}, {_CLUSTER}, users: [{{name: u, user: {{client-certificate: /nowhere}}}}]}}",
        f"{{{_CONTEXT}, {_CLUSTER}, users: [{{name: u, user: {{client-certificate-data: '*'}}}}]}}",
    ],
)
def test_refuses_a_kubeconfig_that_leads_nowhere(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        of_kubeconfig(path)
    assert refused.value.where == str(path)


def test_cancelling_ends_a_watch_over_tls_and_its_thread_at_once(tmp_path, pki):
    (tmp_path / "client.pem").write_bytes(pki["client"][0] + pki["client"][1])

    def silent(_asked, answer):
        answer.begin_stream()
        answer.event("ADDED", {"metadata": {"resourceVersion": "1"}})
        answer.stop.wait(20)

    async def cancelled():
        user = "{client-certificate: client.pem, client-key: client.pem}"
        path = _kubeconfig(tmp_path, server=f"https://localhost:{api.access.port}", ca=pki["ca"], user=user)
        client = ApiClient(of_kubeconfig(path), chance=lambda: 0.0)

        async def watch():
            async with client.watch("/api", {}, seconds=30) as events:
                async for _ in events:
                    seen.set()

        seen = asyncio.Event()
        task = asyncio.create_task(watch())
        await seen.wait()
        async with asyncio.timeout(2):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: not kube_threads(), "thread ended")

    with api_server(silent, tls=_tls_server(pki, tmp_path)) as api:
        run_bounded(cancelled)
