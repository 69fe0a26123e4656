"""Quotes of a make-believe platform, with collateral that fits: good evidence, to change one thing of."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.dcap import Collateral
from bastide.pki.chain import TrustAnchor
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import CertificationData, Quote
from bastide.sgx.report import ReportBody
from bastide.sim.intel import QE_MR_SIGNER, Pki, certification_data, collateral, issue_pck, platform
from support import sgx_values

ISSUED = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class World:
    """One platform under one make-believe root."""

    root: TrustAnchor
    collateral: Collateral
    pck_key: ec.EllipticCurvePrivateKey
    pck_chain: bytes
    pki_state: dict[str, bytes]

    def quote(self, report: ReportBody, key: ec.EllipticCurvePrivateKey | None = None) -> Quote:
        """A quote over ``report``, every signature good; by a new attestation key unless one is given."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        auth_data = bytes(32)
        qe_report = replace(
            sgx_values.report_body(),
            attributes=sgx_values.attributes(AttributeFlags.PROVISIONKEY),
            mr_signer=QE_MR_SIGNER,
            misc_select=0,
            isv_prod_id=1,
            isv_svn=8,
            report_data=hashlib.sha256(point + auth_data).digest() + bytes(32),
        )
        header = sgx_values.quote().header
        return replace(
            sgx_values.quote(),
            body=report,
            signature=_sign(key, header.build() + report.build()),
            attestation_key=point,
            qe_report=qe_report,
            qe_report_signature=_sign(self.pck_key, qe_report.build()),
            qe_auth_data=auth_data,
            certification=CertificationData(type=5, data=self.pck_chain),
        )


@cache
def world() -> World:
    """The same world for all tests of a run."""
    return world_at(ISSUED)


def world_at(issued: datetime) -> World:
    """A world whose certificates and collateral begin at ``issued``."""
    pki, pck_key = Pki.create(issued), ec.generate_private_key(ec.SECP256R1())
    pck = issue_pck(pki, pck_key.public_key(), platform(), issued)
    return World(
        root=pki.trust_anchor,
        collateral=collateral(pki, pck, issued),
        pck_key=pck_key,
        pck_chain=certification_data(pki, pck),
        pki_state=pki.export_state(),
    )


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
