"""A tenant's configuration file (TOML) and its check.

Everything has a default; an unknown name is an error, because a misspelt limit is no limit.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509

from bastide.attest.bearer import check_key_set
from bastide.attest.keys import KeySchedule
from bastide.attest.profile import Profile
from bastide.attest.tenants import DEFAULT_TENANT, AdminRule, Mode, Rates, Role, TenantConfig
from bastide.errors import BastideError, ConfigError
from bastide.policy import DEFAULT_SGX_POLICY, PolicyDocument
from bastide.token.jose import ALGORITHM, ALGORITHMS
from bastide.token.json_text import Json, read_json

RESERVED = frozenset(
    {"attest", "policies", "certificates", "certs", "tcbbaselines", "healthz", "readyz", "metrics", "simulation"}
)
"""Path segments that cannot name a tenant."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LARGEST_FILE = 1 << 20
_Choice = TypeVar("_Choice", bound=StrEnum)
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(hours=24)


class _AdminFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[admin]]`` table."""

    issuer: str
    audience: str
    jwks: str
    claims: dict[str, str]
    role: str = "admin"


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
        admins=tuple(_admin(one, file) for one in read.admin),
        keys=KeySchedule(algorithm=read.algorithm),
        rates=Rates(tenant=read.limits.tenant, client=read.limits.client),
    )


def _certificates(file: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(_read(file)))
    except ValueError as error:
        raise ConfigError("attest.tenant.signers", f"expected certificates in PEM: {error}", where=str(file)) from error


def _policy(name: str | None, file: Path) -> str:
    if name is None:
        return DEFAULT_SGX_POLICY
    try:
        text = _read(file.parent / name).decode()
    except UnicodeDecodeError:
        raise ConfigError("attest.tenant.file", "expected a policy in UTF-8", where=name) from None
    PolicyDocument.parse(text)
    return text


def _admin(read: _AdminFile, file: Path) -> AdminRule:
    if not read.claims:
        raise ConfigError(
            "attest.tenant.admin",
            f"expected at least one claim for {read.issuer}: an issuer speaks for many",
            hint='for example claims = { sub = "system:serviceaccount:ops:policy-admin" }',
            where=str(file),
        )
    keys: Json = read_json(_read(file.parent / read.jwks), largest=_LARGEST_FILE)
    if not isinstance(keys, dict):
        raise ConfigError("attest.bearer.keys", 'expected {"keys": [...]}', where=read.jwks)
    check_key_set(keys)
    return AdminRule(
        issuer=read.issuer,
        audience=read.audience,
        keys=keys,
        claims=dict(read.claims),
        role=_one_of(Role, read.role, file),
    )


def _one_of(kind: type[_Choice], value: str, file: Path) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        message = f"expected one of {', '.join(kind)}, seen {value!r}"
        raise ConfigError("attest.tenant.file", message, where=str(file)) from None


def _parse(file: Path) -> _TenantFile:
    try:
        tree: Mapping[str, object] = tomllib.loads(_read(file).decode())
        return msgspec.convert(tree, _TenantFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError("attest.tenant.file", str(error), where=str(file)) from error


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LARGEST_FILE)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(file)) from error
