"""The collateral for a platform: everything but the quote that verification needs.

Source: Intel "SGX PCS API" version 4.
"""

from dataclasses import replace
from datetime import datetime

from cryptography import x509

from bastide.dcap.collateral import Collateral
from bastide.pki.pck import SgxExtensions, sgx_extensions
from bastide.sim.intel.certificates import Window
from bastide.sim.intel.crls import CrlProfile, issue_crl, pck_crl_profile, root_crl_profile
from bastide.sim.intel.documents import (
    LIFETIME,
    QeIdentityDocument,
    QeLevel,
    TcbInfoDocument,
    TcbLevel,
    TdxModuleDocument,
)
from bastide.sim.intel.pki import Pki

_OLD_MODULE = QeLevel(isv_svn=0, status="OutOfDate", advisory_ids=("INTEL-SA-01036",))


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


def tdx_tcb_info_document(sgx: SgxExtensions, tee_tcb_svn: bytes, at: datetime) -> TcbInfoDocument:
    """TCB info for TDX made at ``at`` in which ``sgx`` with a TD of ``tee_tcb_svn`` (16 bytes) is up to date.

    Anything less is out of date. The TDX module has an identity where ``tee_tcb_svn[1]`` names its major version.
    """
    info = tcb_info_document(sgx, at)
    minor, major = tee_tcb_svn[0], tee_tcb_svn[1]
    least = (0, 0, *tee_tcb_svn[2:]) if major else tuple(tee_tcb_svn)
    current, old = (replace(level, tdx_components=least) for level in info.levels)
    module = TdxModuleDocument(
        id=f"TDX_{major:02X}", levels=(QeLevel(isv_svn=minor), *((_OLD_MODULE,) if minor else ()))
    )
    return replace(
        info,
        id="TDX",
        levels=(current, replace(old, tdx_components=(0,) * 16)),
        tdx_module=TdxModuleDocument(),
        tdx_module_identities=(module,) if major else (),
    )


def td_qe_identity_document(at: datetime) -> QeIdentityDocument:
    """Identity made at ``at`` that fits the make-believe quoting enclave for TDX."""
    return replace(qe_identity_document(at), id="TD_QE", isv_prod_id=2)


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
