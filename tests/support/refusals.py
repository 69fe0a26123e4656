"""Ways of spoiling a good verification, and what must become of it: the rows of the refusal tables."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from bastide.dcap import INTEL, QvlStatus
from bastide.pki.chain import dump_pem_chain
from bastide.sim.intel import (
    Pki,
    Profile,
    Signer,
    Window,
    issue,
    platform,
    platform_ca_profile,
    tcb_signing_profile,
)
from support.quotes import AT, BORN, World, good_world, with_chain, world_of

DAY = timedelta(days=1)
PLATFORM = platform()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A change to a good world, the statuses that are then not OK, and the check that refuses first."""

    change: Callable[[World], World]
    check: str
    statuses: dict[str, QvlStatus] = field(default_factory=dict)


def pki(**profiles: Profile) -> Pki:
    return Pki.create(BORN, **profiles)


def forged(signer: Signer) -> Signer:
    """The same name with another key."""
    return replace(signer, key=ec.generate_private_key(ec.SECP256R1()))


def named(profile: Profile, name: str) -> Profile:
    return replace(profile, common_name=f"SIMULATION {name}")


def foreign_issuer(profile: Profile) -> Profile:
    return replace(profile, issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SGX CA elsewhere")]))


def ended(profile: Profile) -> Profile:
    return replace(profile, window=Window(start=BORN, end=AT - DAY))


def lacking(profile: Profile, oid: x509.ObjectIdentifier = ExtensionOID.SUBJECT_KEY_IDENTIFIER) -> Profile:
    return replace(profile, without=frozenset({oid}))


def _reissue(profile: Profile, subject: Signer, signer: Signer) -> x509.Certificate:
    return issue(profile, subject.key.public_key(), signer)


def ca_not_signed_by_root(world: World) -> World:
    ca = _reissue(platform_ca_profile(BORN), world.pki.platform_ca, forged(world.pki.root))
    return with_chain(world, world.pck, ca, world.pki.root.certificate)


def self_forged(root: x509.Certificate) -> x509.Certificate:
    """The root with a bit of its signature flipped."""
    der = root.public_bytes(Encoding.DER)
    return x509.load_der_x509_certificate(der[:-1] + bytes([der[-1] ^ 1]))


def root_not_signed_by_itself(world: World) -> World:
    broken = self_forged(world.pki.root.certificate)
    return with_chain(world, world.pck, world.pki.platform_ca.certificate, broken)


def signing_chain(world: World, *chain: x509.Certificate) -> World:
    return replace(world, override={"tcb_signing_chain": dump_pem_chain(chain)})


def signer_not_signed_by_root(world: World) -> World:
    cert = _reissue(tcb_signing_profile(BORN), world.pki.tcb_signing, forged(world.pki.root))
    return replace(world, pki=replace(world.pki, tcb_signing=replace(world.pki.tcb_signing, certificate=cert)))


def documents_signed_by_another(world: World) -> World:
    return replace(world, pki=replace(world.pki, tcb_signing=forged(world.pki.tcb_signing)))


def revoked_by_root(world: World, cert: x509.Certificate) -> World:
    return replace(world, root_ca_crl=replace(world.root_ca_crl, revoked=(cert.serial_number,)))


def tcb_info(world: World, **changes: object) -> World:
    return replace(world, tcb_info=replace(world.tcb_info, **changes))


def qe_identity(world: World, **changes: object) -> World:
    return replace(world, qe_identity=replace(world.qe_identity, **changes))


def crl_window(world: World, part: str, start: timedelta, end: timedelta) -> World:
    window = Window(start=AT + start, end=AT + end)
    return replace(world, **{part: replace(getattr(world, part), window=window)})


def crl_by_another(world: World, role: str) -> World:
    """CRLs of the right name by another key; the chain in the quote stays the good one."""
    forged_role = {role: forged(getattr(world.pki, role))}
    return replace(world, pki=replace(world.pki, **forged_role))


def lower_platform(world: World, **svns: object) -> World:
    """The same collateral, a platform of other SVNs."""
    other = world_of(world.pki, platform(**svns))
    level = world.tcb_info.levels[:1]
    return replace(other, tcb_info=replace(world.tcb_info, levels=level))


S = QvlStatus
ALL_CRL = ("pck", "tcb", "qe")
UNTRUSTED = {
    "pck": S.SGX_PCK_CERT_CHAIN_UNTRUSTED,
    "tcb": S.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED,
    "qe": S.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED,
}


def both(status: QvlStatus) -> dict[str, QvlStatus]:
    return {"tcb": status, "qe": status}


def everywhere(status: QvlStatus) -> dict[str, QvlStatus]:
    return dict.fromkeys(ALL_CRL, status)


def assert_refused(row: Row) -> None:
    verdict = row.change(good_world()).verdict()
    seen = {
        "pck": verdict.pck_status,
        "tcb": verdict.tcb_info_status,
        "qe": verdict.qe_identity_status,
        "quote": verdict.quote_status,
    }
    assert {call: status for call, status in seen.items() if status is not S.OK} == row.statuses
    assert verdict.refusals[0].name == row.check
    assert not verdict.acceptable
    for refusal in verdict.refusals:
        assert refusal.expected
        assert refusal.source
        assert not refusal.ok


def assert_refused_td(world: World, check: str, status: QvlStatus) -> None:
    """Everything is genuine, and still the quote call ends at ``check`` with ``status``, whatever is accepted."""
    verdict = world.verdict(INTEL)
    assert (verdict.pck_status, verdict.tcb_info_status, verdict.qe_identity_status) == (S.OK, S.OK, S.OK)
    assert verdict.quote_status is status
    assert verdict.refusals[0].name == check
    assert not verdict.acceptable
