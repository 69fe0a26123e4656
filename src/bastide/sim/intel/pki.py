"""The make-believe PKI: its keys and CAs, and the platforms that it certifies.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification", clause 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bastide.errors import MalformedError
from bastide.pki.chain import (
    LIBRARY_FAULTS,
    TrustAnchor,
    common_name,
    dump_pem_chain,
    load_pem_chain,
    public_point,
)
from bastide.pki.pck import COMPONENTS, PckTcb, SgxExtensions, SgxType
from bastide.sgx.types import CpuSvn, Fmspc, Svn
from bastide.sim.intel.certificates import (
    Profile,
    Signer,
    issue,
    issue_root,
    pck_profile,
    platform_ca_profile,
    processor_ca_profile,
    root_profile,
    tcb_signing_profile,
)

FMSPC = Fmspc(b"SIMULA")
"""FMSPC of make-believe platforms, 6 bytes; no processor of Intel has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """Root, PCK CAs and TCB signer. Whoever holds this value can make any platform look genuine in the simulation."""

    root: Signer
    platform_ca: Signer
    processor_ca: Signer
    tcb_signing: Signer

    @classmethod
    def create(
        cls,
        at: datetime,
        *,
        root: Profile | None = None,
        platform_ca: Profile | None = None,
        processor_ca: Profile | None = None,
        tcb_signing: Profile | None = None,
    ) -> Self:
        """New random keys, certified from ``at`` (aware UTC) on; a profile given replaces the usual one."""
        root_signer = issue_root(root or root_profile(at), _new_key())
        return cls(
            root=root_signer,
            platform_ca=_certified(platform_ca or platform_ca_profile(at), root_signer),
            processor_ca=_certified(processor_ca or processor_ca_profile(at), root_signer),
            tcb_signing=_certified(tcb_signing or tcb_signing_profile(at), root_signer),
        )

    @property
    def trust_anchor(self) -> TrustAnchor:
        """The root as a verifier pins it, marked as simulation."""
        certificate = self.root.certificate
        return TrustAnchor(
            public_point=public_point(certificate), name=common_name(certificate.subject), simulation=True
        )

    @property
    def tcb_signing_chain(self) -> bytes:
        """TCB signing certificate, then the root, PEM."""
        return dump_pem_chain((self.tcb_signing.certificate, self.root.certificate))

    def pck_ca(self, pck: x509.Certificate) -> Signer:
        """The CA of ``pck``: the Processor CA when its name says so, else the Platform CA."""
        return self.processor_ca if pck.issuer == self.processor_ca.certificate.subject else self.platform_ca

    def export_state(self) -> dict[str, bytes]:
        """Keys (unencrypted) and certificates in PEM, by file name, for the lab to keep between runs."""
        state: dict[str, bytes] = {}
        for name, signer in self._signers().items():
            state[f"{name}.key.pem"] = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            state[f"{name}.pem"] = dump_pem_chain((signer.certificate,))
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, bytes]) -> Self:
        """The PKI that :meth:`export_state` wrote.

        Raises:
            MalformedError: ``sim.state.missing``, ``sim.state.key`` (not a P-256 key or not the one certified),
                ``sim.state.root`` (not marked SIMULATION), and those of :func:`bastide.pki.chain.load_pem_chain`.
        """
        pki = cls(
            root=_restored(state, "root"),
            platform_ca=_restored(state, "platform_ca"),
            processor_ca=_restored(state, "processor_ca"),
            tcb_signing=_restored(state, "tcb_signing"),
        )
        TrustAnchor.from_pem(state["root.pem"])
        return pki

    def _signers(self) -> dict[str, Signer]:
        return {
            "root": self.root,
            "platform_ca": self.platform_ca,
            "processor_ca": self.processor_ca,
            "tcb_signing": self.tcb_signing,
        }


def platform(
    *,
    ppid: bytes = b"SIMULATION PPID.",
    components: tuple[int, ...] = (11, 11, 2, 2, 255, 1, 4, *(0,) * 9),
    pce_svn: int = 13,
    cpu_svn: CpuSvn | None = None,
    fmspc: Fmspc = FMSPC,
    pce_id: bytes = bytes(2),
    platform_ca: bool = True,
) -> SgxExtensions:
    """A platform to certify, by default up to date.

    Args:
        ppid: 16 bytes.
        components: the 16 component SVNs, 0..255.
        pce_svn: 0..65535.
        cpu_svn: 16 bytes; by default the components, one byte each.
        fmspc: 6 bytes.
        pce_id: 2 bytes.
        platform_ca: with the seven parts of the Platform CA; else the five of the Processor CA.
    """
    tcb = PckTcb(
        components=components,
        pce_svn=Svn(pce_svn),
        cpu_svn=CpuSvn(bytes(components[:COMPONENTS])) if cpu_svn is None else cpu_svn,
    )
    return SgxExtensions(
        ppid=ppid,
        tcb=tcb,
        pce_id=pce_id,
        fmspc=fmspc,
        sgx_type=SgxType.SCALABLE if platform_ca else SgxType.STANDARD,
        platform_instance_id=ppid[::-1] if platform_ca else None,
        dynamic_platform=True if platform_ca else None,
        cached_keys=True if platform_ca else None,
        smt_enabled=True if platform_ca else None,
    )


def issue_pck(
    pki: Pki,
    key: ec.EllipticCurvePublicKey,
    sgx: SgxExtensions,
    at: datetime,
    *,
    profile: Profile | None = None,
    signer: Signer | None = None,
) -> x509.Certificate:
    """The PCK certificate of ``key`` on the platform ``sgx``, by the CA that fits its kind.

    Args:
        pki: who certifies.
        key: public half of the platform's PCK.
        sgx: the platform.
        at: when the certificate begins, aware UTC.
        profile: replaces the usual profile.
        signer: replaces the usual CA, for tests.
    """
    ca = pki.processor_ca if sgx.platform_instance_id is None else pki.platform_ca
    return issue(profile or pck_profile(at, sgx), key, signer or ca)


def certification_data(pki: Pki, pck: x509.Certificate) -> bytes:
    """Certification data of type 5: PCK certificate, its CA and the root in PEM, without a NUL at the end."""
    return dump_pem_chain((pck, pki.pck_ca(pck).certificate, pki.root.certificate))


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certified(profile: Profile, signer: Signer) -> Signer:
    key = _new_key()
    return Signer(key=key, certificate=issue(profile, key.public_key(), signer))


def _restored(state: Mapping[str, bytes], name: str) -> Signer:
    missing = {f"{name}.key.pem", f"{name}.pem"} - state.keys()
    if missing:
        raise MalformedError("sim.state.missing", f"expected {' and '.join(sorted(missing))} in the kept PKI")
    certificate = load_pem_chain(state[f"{name}.pem"])[0]
    try:
        key = load_pem_private_key(state[f"{name}.key.pem"], None)
    except LIBRARY_FAULTS as fault:
        raise MalformedError("sim.state.key", f"expected a private key: {fault}", where=f"{name}.key.pem") from fault
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise MalformedError("sim.state.key", f"expected the key that {name}.pem certifies", where=f"{name}.key.pem")
    return Signer(key=key, certificate=certificate)
