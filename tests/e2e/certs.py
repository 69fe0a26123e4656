"""Every key and certificate of a small cluster, made anew for each box."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NODE_ADDRESS = "10.66.0.2"
NODE_NAME = "boxnode"

# Kubernetes' own names: user and group are common name and organization. Source: "PKI certificates and requirements".
_CLIENTS = {
    "admin": ("kubernetes-admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", None),
    "controller-manager": ("system:kube-controller-manager", None),
    "proxy": ("system:kube-proxy", None),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
}


@dataclass(frozen=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    name: x509.Name


def make_certificates(folder: Path) -> None:
    """Write ``<name>.crt`` and ``<name>.key`` for authorities, servers and clients, and ``sa.key``, ``sa.pub``."""
    folder.mkdir(parents=True)
    cluster = _authority(folder, "ca")
    for file, (user, group) in _CLIENTS.items():
        _issue(folder, file, cluster, _name(user, group), ExtendedKeyUsageOID.CLIENT_AUTH)
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    addresses = (NODE_ADDRESS, "127.0.0.1", "10.0.0.1")
    _issue(folder, "apiserver", cluster, _name("kube-apiserver"), ExtendedKeyUsageOID.SERVER_AUTH, names, addresses)
    node = _name(f"system:node:{NODE_NAME}", "system:nodes")
    server = ExtendedKeyUsageOID.SERVER_AUTH
    _issue(folder, "kubelet-server", cluster, node, server, (NODE_NAME,), (NODE_ADDRESS,))
    front = _authority(folder, "front-proxy-ca")
    _issue(folder, "front-proxy", front, _name("front-proxy-client"), ExtendedKeyUsageOID.CLIENT_AUTH)
    accounts = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / "sa.key", accounts)
    (folder / "sa.pub").write_bytes(
        accounts.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _authority(folder: Path, file: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _Authority(key=key, name=_name(file))
    _write_key(folder / f"{file}.key", key)
    builder = _builder(authority, authority.name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    _write_certificate(folder / f"{file}.crt", builder.sign(key, hashes.SHA256()))
    return authority


def _issue(
    folder: Path,
    file: str,
    authority: _Authority,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / f"{file}.key", key)
    builder = _builder(authority, subject, key.public_key())
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    alternatives = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    _write_certificate(folder / f"{file}.crt", builder.sign(authority.key, hashes.SHA256()))


def _builder(issuer: _Authority, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _name(common_name: str, organization: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _write_certificate(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
