"""Our values in the form that other people's verifiers take them."""

import json

from bastide.dcap.collateral import Collateral


def dcap_qvl_collateral(collateral: Collateral, pck_ca_chain: bytes) -> str:
    """JSON for ``dcap_qvl.QuoteCollateralV3.from_json``; ``pck_ca_chain`` is the PCK CA and the root, PEM."""
    tcb_info, tcb_info_signature = _split(collateral.tcb_info)
    qe_identity, qe_identity_signature = _split(collateral.qe_identity)
    signing_chain = collateral.tcb_signing_chain.decode()
    return json.dumps(
        {
            "pck_crl_issuer_chain": pck_ca_chain.decode(),
            "root_ca_crl": collateral.root_ca_crl.hex(),
            "pck_crl": collateral.pck_crl.hex(),
            "tcb_info_issuer_chain": signing_chain,
            "tcb_info": tcb_info,
            "tcb_info_signature": tcb_info_signature,
            "qe_identity_issuer_chain": signing_chain,
            "qe_identity": qe_identity,
            "qe_identity_signature": qe_identity_signature,
        }
    )


def _split(document: bytes) -> tuple[str, str]:
    """The signed inner text, byte for byte, and the signature in hex."""
    head, signature = document.decode().rsplit(',"signature":', 1)
    return head.partition(":")[2], json.loads(signature.rstrip()[:-1])
