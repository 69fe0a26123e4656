"""Where the API server is and who we are: from the pod's service account, or from a kubeconfig.

Source: Kubernetes docs, "Accessing the Kubernetes API from a Pod", "Organizing Cluster Access Using kubeconfig Files",
"Bound service account tokens" (the kubelet replaces the token's file: it is read anew for each request).
"""

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bastide.errors import ConfigError
from bastide.pods.tree import at, mapping, sequence, text

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the cluster's CA."""

_LARGEST_TOKEN = 64 * 1024
_LARGEST_CONFIG = 1 << 20
_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """How to reach one API server.

    Attributes:
        host: name or address.
        port: TCP port.
        tls: what to trust and which certificate to show; None: plain HTTP (tests and local proxies only).
        token_file: read for each request; None: no token.
        prefix: path before ``/api``, empty or such as ``/k8s/clusters/c-1``.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    token_file: Path | None = None
    prefix: str = ""

    def authorization(self) -> Mapping[str, str]:
        """Headers that say who we are, with the token of this moment.

        Raises:
            ConfigError: ``kube.token`` where its file cannot be read or has no token.
        """
        if self.token_file is None:
            return {}
        try:
            with self.token_file.open("rb") as file:
                token = file.read(_LARGEST_TOKEN).strip().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("kube.token", f"cannot read the token: {error}", where=str(self.token_file)) from None
        if not token or not token.isprintable():
            raise ConfigError("kube.token", "expected a token, the file has none", where=str(self.token_file))
        return {"Authorization": f"Bearer {token}"}


def in_cluster(environment: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> ClusterAccess:
    """The access that a pod has by its service account.

    Raises:
        ConfigError: ``kube.access.not_in_pod``, ``kube.access.certificate``.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdecimal():
        raise ConfigError(
            "kube.access.not_in_pod",
            "expected KUBERNETES_SERVICE_HOST and _PORT in the environment",
            hint="run in a pod, or give --kubeconfig FILE",
        )
    return ClusterAccess(host=host, port=int(port), tls=_trust(cafile=account / "ca.crt"), token_file=account / "token")


def of_kubeconfig(path: Path) -> ClusterAccess:
    """The access of the current context: CA, client certificate or token file. Plugins (exec) are not run.

    Raises:
        ConfigError: ``kube.kubeconfig``, ``kube.access.certificate``.
    """
    tree = _config_tree(path)
    context = _named(tree, "contexts", "context", text(at(tree, ("current-context",))), path)
    cluster = _named(tree, "clusters", "cluster", text(context.get("cluster")), path)
    user = _named(tree, "users", "user", text(context.get("user")), path)
    server = _server(text(cluster.get("server")), path)
    if "exec" in user or "token" in user or "auth-provider" in user:
        hint = "use client-certificate or tokenFile"
        raise ConfigError(
            "kube.kubeconfig", "exec, token and auth-provider are not supported", hint=hint, where=str(path)
        )
    token_file = text(user.get("tokenFile"))
    return ClusterAccess(
        host=server[1],
        port=server[2],
        prefix=server[3],
        tls=_client_tls(cluster, user, path) if server[0] == "https" else None,
        token_file=path.parent / token_file if token_file else None,
    )


def _config_tree(path: Path) -> dict[str, object]:
    import yaml  # not for agents in pods, which keep their memory small

    try:
        with path.open("rb") as file:
            return mapping(yaml.safe_load(file.read(_LARGEST_CONFIG)))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError("kube.kubeconfig", f"cannot read it: {str(error)[:200]}", where=str(path)) from None


def _named(tree: dict[str, object], many: str, one: str, name: str, path: Path) -> dict[str, object]:
    for entry in sequence(tree.get(many)):
        if at(entry, ("name",)) == name:
            return mapping(at(entry, (one,)))
    raise ConfigError("kube.kubeconfig", f"expected {name!r} among its {many}", where=str(path))


def _server(url: str, path: Path) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or (_HTTPS_PORT if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("kube.kubeconfig", f"expected the URL of a server, seen {url[:200]!r}", where=str(path))
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _client_tls(cluster: dict[str, object], user: dict[str, object], path: Path) -> ssl.SSLContext:
    context = _trust(cadata=_data_or_file(cluster, "certificate-authority", path).decode("ascii", "replace"))
    certificate = _data_or_file(user, "client-certificate", path)
    if certificate:
        # OpenSSL takes a client certificate from files only; these live for the moment of loading, in a folder of ours.
        with tempfile.TemporaryDirectory(prefix="bastide-") as folder:
            both = Path(folder) / "client.pem"
            both.touch(mode=0o600)
            both.write_bytes(certificate + b"\n" + _data_or_file(user, "client-key", path))
            try:
                context.load_cert_chain(both)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError("kube.access.certificate", f"client certificate: {error}", where=str(path)) from None
    return context


def _data_or_file(entry: dict[str, object], name: str, path: Path) -> bytes:
    data, file = text(entry.get(f"{name}-data")), text(entry.get(name))
    try:
        if data:
            return base64.b64decode(data, validate=True)
        return (path.parent / file).read_bytes() if file else b""
    except (OSError, binascii.Error) as error:
        raise ConfigError("kube.kubeconfig", f"{name}: {error}", where=str(path)) from None


def _trust(*, cafile: Path | None = None, cadata: str = "") -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cafile, cadata=cadata or None)
    except (OSError, ValueError) as error:
        raise ConfigError(
            "kube.access.certificate",
            f"cannot read the cluster's certificate authority: {error}",
            where=str(cafile or ""),
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Set by default since Python 3.13; the certificates of many clusters lack the extensions that it asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
