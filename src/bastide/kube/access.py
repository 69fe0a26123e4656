"""Where the API server is and who we are: from the pod's service account, or from a kubeconfig.

Source: Kubernetes docs, "Accessing the Kubernetes API from a Pod", "Organizing Cluster Access Using kubeconfig Files",
"Bound service account tokens" (the kubelet replaces the token's file: it is read anew for each request).
"""

import base64
import binascii
import logging
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bastide.errors import ConfigError
from bastide.kube.exec_credential import Credentials, Plugin
from bastide.pods.tree import at, mapping, sequence, text

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the cluster's CA."""

_LARGEST_TOKEN = 64 * 1024
_LARGEST_CONFIG = 1 << 20
_HTTPS_PORT = 443
_UNSUPPORTED = frozenset(("auth-provider", "username", "password", "as", "as-uid", "as-groups", "proxy-url"))
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """How to reach one API server.

    Attributes:
        host: name or address.
        port: TCP port.
        tls: what to trust and which certificate to show; None: plain HTTP (tests and local proxies only).
        token_file: read for each request; None: no token.
        prefix: path before ``/api``, empty or such as ``/k8s/clusters/c-1``.
        bearer: gives the token for each request where there is no file; empty text: none.
        server_name: whose certificate the server has to show; empty: that of ``host``.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    token_file: Path | None = None
    prefix: str = ""
    bearer: Callable[[], str] | None = field(default=None, repr=False)
    server_name: str = ""

    def authorization(self) -> Mapping[str, str]:
        """Headers that say who we are, with the token of this moment.

        Raises:
            ConfigError: ``kube.token`` where its file cannot be read or has no token.
            BastideError: those of ``Plugin.ask``.
        """
        if self.bearer is not None:
            token = self.bearer()
            return {"Authorization": f"Bearer {token}"} if token else {}
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


def of_kubeconfig(path: Path, *, context: str = "", attended: bool = False) -> ClusterAccess:
    """The access of a context: CA; client certificate, token, token file, or a credential plugin's.

    Args:
        path: of the kubeconfig.
        context: its name; empty: the current one.
        attended: a person runs this command. Only then is a plugin (``exec``) run, and ``insecure-skip-tls-verify``
            followed, with a warning.

    Raises:
        ConfigError: ``kube.kubeconfig``, ``kube.access.certificate``, ``kube.exec.*``.
        UnavailableError: ``kube.exec.failed``, ``kube.exec.timeout``.
    """
    tree = _config_tree(path)
    chosen = _named(tree, "contexts", "context", context or text(at(tree, ("current-context",))), path)
    cluster = _named(tree, "clusters", "cluster", text(chosen.get("cluster")), path)
    user = _named(tree, "users", "user", text(chosen.get("user")), path)
    scheme, host, port, prefix = _server(text(cluster.get("server")), path)
    for name in sorted(_UNSUPPORTED & {*user, *cluster}):
        hint = "of a user: exec, token, tokenFile and client-certificate are"
        raise ConfigError("kube.kubeconfig", f"{name} is not supported", hint=hint, where=str(path))
    credentials = _plugin(cluster, user, path, attended=attended)
    insecure = _insecure(cluster, path, attended=attended)
    token_file = text(user.get("tokenFile"))
    return ClusterAccess(
        host=host,
        port=port,
        prefix=prefix,
        tls=_client_tls(cluster, user, path, credentials, insecure=insecure) if scheme == "https" else None,
        token_file=path.parent / token_file if token_file else None,
        bearer=_bearer(user, path, credentials),
        server_name=text(cluster.get("tls-server-name")),
    )


def _plugin(cluster: dict[str, object], user: dict[str, object], path: Path, *, attended: bool) -> Credentials | None:
    if user.get("exec") is None:
        return None
    if not attended:
        raise ConfigError(
            "kube.kubeconfig",
            "a credential plugin (exec) is run for commands of people only",
            hint="give this process a service account, a tokenFile or a client certificate",
            where=str(path),
        )
    told: dict[str, object] = {
        name: cluster[name] for name in ("server", "tls-server-name", "insecure-skip-tls-verify") if name in cluster
    }
    if authority := _data_or_file(cluster, "certificate-authority", path):
        told["certificate-authority-data"] = base64.b64encode(authority).decode()
    config = next(
        (
            at(one, ("extension",))
            for one in sequence(cluster.get("extensions"))
            if at(one, ("name",)) == _EXEC_EXTENSION
        ),
        None,
    )
    return Credentials(Plugin.parse(user["exec"], {**told, "config": config}, path))


def _bearer(user: dict[str, object], path: Path, credentials: Credentials | None) -> Callable[[], str] | None:
    """The plugin's token, else the file's (which is None here), else the one that stands in the kubeconfig."""
    if credentials is not None:
        return credentials.token
    token = text(user.get("token")).strip()
    if not token or user.get("tokenFile"):
        return None
    if not (token.isascii() and token.isprintable()):
        raise ConfigError("kube.token", "expected users[].user.token in printable ASCII", where=str(path))
    return lambda: token


def _insecure(cluster: dict[str, object], path: Path, *, attended: bool) -> bool:
    """Whether the server's certificate is to be believed unseen. Nothing but the kubeconfig can ask for that."""
    asked = cluster.get("insecure-skip-tls-verify", False)
    if asked is False:
        return False
    message = ""
    if asked is not True:
        message = "insecure-skip-tls-verify: expected true or false"
    elif not attended:
        message = "insecure-skip-tls-verify is followed for commands of people only"
    elif "certificate-authority" in cluster or "certificate-authority-data" in cluster:
        message = "insecure-skip-tls-verify and certificate-authority contradict each other"
    if message:
        hint = "give the cluster's certificate-authority, and leave insecure-skip-tls-verify out"
        raise ConfigError("kube.kubeconfig", message, hint=hint, where=str(path))
    _LOG.warning(
        "%s: insecure-skip-tls-verify: whoever is on the way to the API server can read and change everything", path
    )
    return True


def _config_tree(path: Path) -> dict[str, object]:
    import yaml  # not for agents in pods, which keep their memory small

    try:
        with path.open("rb") as file:
            return mapping(yaml.safe_load(file.read(_LARGEST_CONFIG)))
    except OSError as error:
        raise ConfigError("kube.kubeconfig", f"cannot read it: {error.strerror}", where=str(path)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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


def _client_tls(
    cluster: dict[str, object],
    user: dict[str, object],
    path: Path,
    credentials: Credentials | None,
    *,
    insecure: bool,
) -> ssl.SSLContext:
    context = _trust(cadata=_data_or_file(cluster, "certificate-authority", path).decode("ascii", "replace"))
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = (_data_or_file(user, f"client-{one}", path) for one in ("certificate", "key"))
    if credentials is not None and (said := credentials.current()).certificate:
        certificate, key = said.certificate, said.key
    if certificate:
        _show(context, certificate, key, path)
    return context


def _show(context: ssl.SSLContext, certificate: bytes, key: bytes, path: Path) -> None:
    """Have a client certificate shown. OpenSSL takes it from files only; these live for the moment of loading."""
    with tempfile.TemporaryDirectory(prefix="bastide-") as folder:
        both = Path(folder) / "client.pem"
        both.touch(mode=0o600)
        both.write_bytes(certificate + b"\n" + key)
        try:
            # Without a password of ours OpenSSL would ask at the terminal for that of an encrypted key.
            context.load_cert_chain(both, password="")
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("kube.access.certificate", f"client certificate: {error}", where=str(path)) from None


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
