"""A tenant's configuration file (TOML) and its check.

Everything has a default; an unknown name is an error, because a misspelt limit is no limit.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, cast

import msgspec
from cryptography import x509

from bastide.attest.clientcert import NAMES, RevocationFile, check_authority
from bastide.attest.files import read_file
from bastide.attest.issuerkeys import DiscoveredKeys, FileKeys
from bastide.attest.keys import KeySchedule
from bastide.attest.oidc import IssuerClient
from bastide.attest.profile import Profile
from bastide.attest.tenants import (
    DEFAULT_TENANT,
    AdminRule,
    CertificateRule,
    KeySource,
    Mode,
    Rates,
    Role,
    TenantConfig,
    Wanted,
)
from bastide.errors import BastideError, ConfigError
from bastide.policy import DEFAULT_SGX_POLICY, PolicyDocument
from bastide.token.jose import ALGORITHM, ALGORITHMS

RESERVED = frozenset(
    {"attest", "policies", "certificates", "certs", "tcbbaselines", "healthz", "readyz", "metrics", "simulation"}
)
"""Path segments that cannot name a tenant."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DEEPEST_CLAIM = 8
_Choice = TypeVar("_Choice", bound=StrEnum)
_Value = TypeVar("_Value")
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(hours=24)


class _AdminFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[admin]]`` table: a bearer token's issuer, or a client certificate's."""

    role: str = "admin"
    issuer: str | None = None
    audience: str | None = None
    jwks: str | None = None
    ca_file: str | None = None
    claims: dict[str, object] | None = None
    client_ca: str | None = None
    client_crl: str | None = None
    certificate: dict[str, str] | None = None


class _LimitsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[limits]`` table, requests a second."""

    tenant: float = Rates().tenant
    client: float = Rates().client


class _TenantFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    mode: str = "aad"
    profile: str = "strict"
    lifetime_minutes: int = 480
    algorithm: str = ALGORITHM
    audience: str | None = None
    tcb_baseline: int | None = None
    policy_signers: str | None = None
    default_policy: str | None = None
    admin: tuple[_AdminFile, ...] = ()
    limits: _LimitsFile = msgspec.field(default_factory=_LimitsFile)


def tenant_config(name: str, file: Path | None, *, public_url: str) -> TenantConfig:
    """The configuration of one tenant; paths in the file are relative to it.

    Args:
        name: ``default``, or a path segment of lower-case letters, digits and dashes.
        file: TOML; None for defaults.
        public_url: URL of the default tenant.

    Raises:
        ConfigError: ``attest.tenant.*``, ``attest.bearer.keys``, ``file.unreadable``.
    """
    if name != DEFAULT_TENANT and (not _NAME.fullmatch(name) or name in RESERVED):
        message = f"expected up to 63 lower-case letters, digits and dashes that are no path of the API, seen {name!r}"
        raise ConfigError("attest.tenant.name", message)
    issuer = public_url if name == DEFAULT_TENANT else f"{public_url}/{name}"
    try:
        return _config(name, issuer, _TenantFile() if file is None else _parse(file), file or Path())
    except ConfigError:
        raise
    except BastideError as error:
        raise ConfigError("attest.tenant.file", str(error), hint=error.hint, where=str(file)) from error


def _config(name: str, issuer: str, read: _TenantFile, file: Path) -> TenantConfig:
    lifetime = timedelta(minutes=read.lifetime_minutes)
    if not _SHORTEST <= lifetime <= _LONGEST:
        message = f"expected lifetime_minutes from 1 to {_LONGEST // timedelta(minutes=1)}"
        raise ConfigError("attest.tenant.file", message, where=str(file))
    if not (read.limits.tenant > 0 and read.limits.client > 0):
        raise ConfigError("attest.tenant.file", "expected limits above 0", where=str(file))
    if read.algorithm not in ALGORITHMS:
        message = f"expected algorithm {' or '.join(ALGORITHMS)}, seen {read.algorithm!r}"
        raise ConfigError("attest.tenant.file", message, where=str(file))
    signers = () if read.policy_signers is None else _certificates(file.parent / read.policy_signers)
    return TenantConfig(
        name=name,
        issuer=issuer,
        mode=_one_of(Mode, read.mode, file),
        profile=_one_of(Profile, read.profile, file),
        lifetime=lifetime,
        audience=read.audience,
        baseline=read.tcb_baseline,
        signers=signers,
        default_policy=_policy(read.default_policy, file),
        admins=_bearer_rules(read.admin, file),
        certificate_admins=tuple(_certificate_rule(one, file) for one in read.admin if one.client_ca is not None),
        keys=KeySchedule(algorithm=read.algorithm),
        rates=Rates(tenant=read.limits.tenant, client=read.limits.client),
    )


def _certificates(file: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(read_file(file)))
    except ValueError as error:
        raise ConfigError("attest.tenant.signers", f"expected certificates in PEM: {error}", where=str(file)) from error


def _policy(name: str | None, file: Path) -> str:
    if name is None:
        return DEFAULT_SGX_POLICY
    try:
        text = read_file(file.parent / name).decode()
    except UnicodeDecodeError:
        raise ConfigError("attest.tenant.file", "expected a policy in UTF-8", where=name) from None
    PolicyDocument.parse(text)
    return text


def _bearer_rules(tables: Sequence[_AdminFile], file: Path) -> tuple[AdminRule, ...]:
    """The rules for bearer tokens; those with the same issuer share its keys."""
    sources: dict[tuple[str | None, ...], KeySource] = {}
    rules = []
    for table in tables:
        if table.client_ca is None:
            name = (table.issuer, table.jwks, table.ca_file)
            source = sources.get(name) or _key_source(table, file)
            sources[name] = source
            rules.append(_bearer_rule(table, source, file))
    return tuple(rules)


def _bearer_rule(table: _AdminFile, keys: KeySource, file: Path) -> AdminRule:
    if table.issuer is None or table.audience is None or table.client_crl is not None or table.certificate is not None:
        message = "expected issuer, audience and claims of a bearer token, or client_ca and certificate"
        raise ConfigError("attest.tenant.admin", message, where=str(file))
    return AdminRule(
        issuer=table.issuer,
        audience=table.audience,
        keys=keys,
        claims={name: _wanted(value, name, file) for name, value in _something(table.claims, table, file).items()},
        role=_one_of(Role, table.role, file),
    )


def _key_source(table: _AdminFile, file: Path) -> KeySource:
    if table.jwks is not None:
        return FileKeys(file.parent / table.jwks)
    authorities = None if table.ca_file is None else str(file.parent / table.ca_file)
    return DiscoveredKeys(table.issuer or "", IssuerClient(authorities).key_set)


def _certificate_rule(table: _AdminFile, file: Path) -> CertificateRule:
    others = (table.issuer, table.audience, table.jwks, table.ca_file, table.claims)
    if any(one is not None for one in others):
        message = "expected either client_ca and certificate, or issuer, audience and claims of a bearer token"
        raise ConfigError("attest.tenant.admin", message, where=str(file))
    names = _something(table.certificate, table, file)
    unknown = sorted(names.keys() - NAMES.keys())
    if unknown or not all(names.values()):
        message = f"expected {', '.join(NAMES)} with text in certificate, seen {unknown or names}"
        raise ConfigError("attest.tenant.admin", message, where=str(file))
    authorities = _certificates(file.parent / (table.client_ca or ""))
    for one in authorities:
        check_authority(one)
    return CertificateRule(
        authorities=authorities,
        names=names,
        role=_one_of(Role, table.role, file),
        revocation=None if table.client_crl is None else RevocationFile(file.parent / table.client_crl),
    )


def _something(asked: dict[str, _Value] | None, table: _AdminFile, file: Path) -> dict[str, _Value]:
    if asked:
        return asked
    raise ConfigError(
        "attest.tenant.admin",
        f"expected at least one claim or name for {table.issuer or table.client_ca}: an issuer speaks for many",
        hint='for example claims = { sub = "system:serviceaccount:ops:policy-admin" }',
        where=str(file),
    )


def _wanted(value: object, name: str, file: Path, depth: int = 1) -> Wanted:
    """What a claim must be: text, or a table with something in it."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not value or depth >= _DEEPEST_CLAIM:
        message = f"expected text, or a table with claims in it, in claim {name!r}"
        raise ConfigError("attest.tenant.admin", message, where=str(file))
    members = cast("dict[str, object]", value)
    return {key: _wanted(one, f"{name}.{key}", file, depth + 1) for key, one in members.items()}


def _one_of(kind: type[_Choice], value: str, file: Path) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        message = f"expected one of {', '.join(kind)}, seen {value!r}"
        raise ConfigError("attest.tenant.file", message, where=str(file)) from None


def _parse(file: Path) -> _TenantFile:
    try:
        tree: Mapping[str, object] = tomllib.loads(read_file(file).decode())
        return msgspec.convert(tree, _TenantFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError("attest.tenant.file", str(error), where=str(file)) from error
