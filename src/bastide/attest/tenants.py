"""What distinguishes tenants: mode, profile, tokens, administrators, limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeAlias

from cryptography import x509

from bastide.attest.keys import KeySchedule
from bastide.attest.profile import Profile
from bastide.attest.service import TOKEN_LIFETIME
from bastide.policy import DEFAULT_SGX_POLICY
from bastide.token.json_text import Json

DEFAULT_TENANT = "default"
"""The tenant at the public URL itself; every other is one path segment below it."""


class Kind(StrEnum):
    """What can have a policy."""

    SGX = "SgxEnclave"
    OPEN_ENCLAVE = "OpenEnclave"
    TPM = "Tpm"


class Mode(StrEnum):
    """Who may change a tenant's policies.

    ``isolated``: whoever holds the key of a registered certificate. ``aad``: any administrator. ``shared``: nobody.
    """

    ISOLATED = "isolated"
    AAD = "aad"
    SHARED = "shared"


class Role(StrEnum):
    """What an administrator may do: only read, or change as well."""

    READER = "reader"
    ADMIN = "admin"


Wanted: TypeAlias = "str | Mapping[str, Wanted]"
"""What a claim must be: this text, alone or in a list; or an object that has these members."""


class KeySource(Protocol):
    """An issuer's public keys, from wherever they come; never from a token."""

    def at_hand(self, now: datetime) -> Mapping[str, Json]:
        """The key set, as its JSON says.

        Raises:
            UnavailableError: ``attest.issuer-keys.unavailable``.
        """

    def refresh(self, now: datetime, *, wanted: bool = False) -> None:
        """Look for other keys where it is time to; blocks. What is at hand stays so until something better is there.

        Args:
            now: aware instant.
            wanted: a token names a key that is not at hand.

        Raises:
            BastideError: what is wrong.
        """


class Revocation(Protocol):
    """Which certificates count no more."""

    def refresh(self) -> None:
        """Look for changes; blocks.

        Raises:
            BastideError: what is wrong.
        """

    def verdict(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> str | None:
        """Why the certificate does not count: ``revoked`` or ``unknown-revocation``; None when it is not revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRule:
    """Whose bearer tokens count for what.

    Attributes:
        issuer: claim ``iss``.
        audience: what claim ``aud`` must contain.
        keys: the issuer's keys.
        claims: claims that the token must have; at least one, since an issuer speaks for many.
        role: what such a token allows.
    """

    issuer: str
    audience: str
    keys: KeySource = field(repr=False)
    claims: Mapping[str, Wanted]
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRule:
    """Whose client certificates count for what.

    Attributes:
        authorities: one of these must have issued the certificate itself.
        names: the names that it must have, by kind (see ``clientcert.NAMES``); at least one.
        role: what such a certificate allows.
        revocation: which certificates count no more; None: none is ever revoked.
    """

    authorities: tuple[x509.Certificate, ...] = field(repr=False)
    names: Mapping[str, str]
    role: Role
    revocation: Revocation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How many requests a second, on average, and how many at once.

    Attributes:
        tenant: of all clients of the tenant together.
        client: of one client address.
        burst: seconds' worth that may come at once.
    """

    tenant: float = 5000.0
    client: float = 100.0
    burst: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantConfig:
    """One tenant.

    Attributes:
        name: ``default``, or the path segment under which it is found.
        issuer: URL of its tokens' issuer.
        mode: who may change policies.
        profile: how evidence is appraised before the policy is asked.
        lifetime: of attestation tokens.
        audience: claim ``aud`` of attestation tokens; None for none.
        baseline: the tcbEvaluationDataNumber that ``azuredefault`` means in profile ``maa``; None: no baseline.
        signers: policy certificates with which an isolated tenant begins.
        default_policy: the policy that counts where none is set.
        admins: whose bearer tokens count.
        certificate_admins: whose client certificates count. Where there is neither, administration is closed.
        rates: limits.
        keys: when signing keys come and go.
    """

    name: str
    issuer: str
    mode: Mode = Mode.AAD
    profile: Profile = Profile.STRICT
    lifetime: timedelta = TOKEN_LIFETIME
    audience: str | None = None
    baseline: int | None = None
    signers: tuple[x509.Certificate, ...] = ()
    default_policy: str = DEFAULT_SGX_POLICY
    admins: tuple[AdminRule, ...] = ()
    certificate_admins: tuple[CertificateRule, ...] = ()
    rates: Rates = field(default_factory=Rates)
    keys: KeySchedule = field(default_factory=KeySchedule)
