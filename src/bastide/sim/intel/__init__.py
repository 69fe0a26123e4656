"""A make-believe Intel: the provisioning certification PKI and service of the lab and of negative tests.

Everything has Intel's exact formats and every certificate says SIMULATION. Nothing here is for production: the only
verifier that believes it is one that was given this PKI's root by name.

``Pki.create(at)`` makes the keys and certificates, ``issue_pck`` a platform's certificate, ``collateral`` the rest.
Each takes a profile or document value with good defaults, so a wrong one is ``dataclasses.replace`` away.
"""

from bastide.sim.intel.certificates import (
    Profile,
    Signer,
    Window,
    issue,
    pck_profile,
    platform_ca_profile,
    processor_ca_profile,
    root_profile,
    tcb_signing_profile,
)
from bastide.sim.intel.collateral import (
    collateral,
    qe_identity_document,
    tcb_info_document,
    td_qe_identity_document,
    tdx_tcb_info_document,
)
from bastide.sim.intel.crls import CrlProfile, issue_crl, pck_crl_profile, root_crl_profile
from bastide.sim.intel.documents import (
    QE_MR_SIGNER,
    QeIdentityDocument,
    QeLevel,
    TcbInfoDocument,
    TcbLevel,
    TdxModuleDocument,
    sign_document,
)
from bastide.sim.intel.pki import FMSPC, Pki, certification_data, issue_pck, platform
from bastide.sim.intel.specimen import Specimen, specimen

__all__ = [
    "FMSPC",
    "QE_MR_SIGNER",
    "CrlProfile",
    "Pki",
    "Profile",
    "QeIdentityDocument",
    "QeLevel",
    "Signer",
    "Specimen",
    "TcbInfoDocument",
    "TcbLevel",
    "TdxModuleDocument",
    "Window",
    "certification_data",
    "collateral",
    "issue",
    "issue_crl",
    "issue_pck",
    "pck_crl_profile",
    "pck_profile",
    "platform",
    "platform_ca_profile",
    "processor_ca_profile",
    "qe_identity_document",
    "root_crl_profile",
    "root_profile",
    "sign_document",
    "specimen",
    "tcb_info_document",
    "tcb_signing_profile",
    "td_qe_identity_document",
    "tdx_tcb_info_document",
]
