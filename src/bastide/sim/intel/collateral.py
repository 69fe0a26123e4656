"""The collateral for a platform: everything but the quote that verification needs.

Source: Intel "SGX PCS API" version 4.
"""

from datetime import datetime

from cryptography import x509

from bastide.dcap.collateral import Collateral
from bastide.pki.pck import SgxExtensions, sgx_extensions
from bastide.sim.intel.certificates import Window
from bastide.sim.intel.crls import CrlProfile, issue_crl, pck_crl_profile, root_crl_profile
from bastide.sim.intel.documents import LIFETIME, QeIdentityDocument, TcbInfoDocument, TcbLevel
from bastide.sim.intel.pki import Pki


def tcb_info_document(sgx: SgxExtensions, at: datetime) -> TcbInfoDocument:
    """TCB info made at ``at`` in which ``sgx`` is up to date and anything less out of date."""
    return TcbInfoDocument(
        window=Window.of(at, LIFETIME),
        fmspc=sgx.fmspc,
        pce_id=sgx.pce_id,
        levels=(
            TcbLevel(components=sgx.tcb.components, pce_svn=sgx.tcb.pce_svn),
            TcbLevel(components=(0,) * 16, pce_svn=0, status="OutOfDate", advisory_ids=("INTEL-SA-00615",)),
        ),
    )


def qe_identity_document(at: datetime) -> QeIdentityDocument:
    """QE identity made at ``at`` that fits the make-believe quoting enclave."""
    return QeIdentityDocument(window=Window.of(at, LIFETIME))


def collateral(
    pki: Pki,
    pck: x509.Certificate,
    at: datetime,
    *,
    tcb_info: TcbInfoDocument | None = None,
    qe_identity: QeIdentityDocument | None = None,
    pck_crl: CrlProfile | None = None,
    root_ca_crl: CrlProfile | None = None,
) -> Collateral:
    """The collateral for the platform of ``pck`` as the service would hand it out at ``at`` (aware UTC).

    By default the platform is up to date and nothing is revoked. A document or list given replaces the usual one;
    for one that this PKI would never sign, replace the bytes in the result.
    """
    info = tcb_info or tcb_info_document(sgx_extensions(pck), at)
    identity = qe_identity or qe_identity_document(at)
    return Collateral(
        tcb_info=info.sign(pki.tcb_signing.key),
        qe_identity=identity.sign(pki.tcb_signing.key),
        pck_crl=issue_crl(pck_crl or pck_crl_profile(at), pki.pck_ca(pck)),
        root_ca_crl=issue_crl(root_ca_crl or root_crl_profile(at), pki.root),
        tcb_signing_chain=pki.tcb_signing_chain,
    )
