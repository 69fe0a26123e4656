"""Collateral in one file: Bastide's bundle and dcap-qvl's JSON."""

import base64
import json
from dataclasses import replace

import pytest

from bastide.dcap import Collateral, verify
from bastide.dcap.bundle import read_bundle, write_bundle
from bastide.errors import MalformedError
from bastide.pki.chain import dump_pem_chain
from support.foreign import dcap_qvl_collateral
from support.quotes import good_world

WORLD = good_world()
GOOD = WORLD.collateral
BUNDLE = json.loads(write_bundle(GOOD))
QVL = json.loads(dcap_qvl_collateral(GOOD, dump_pem_chain((WORLD.pki.platform_ca.certificate,))))


def code_of(tree: object) -> str:
    with pytest.raises(MalformedError) as caught:
        read_bundle(json.dumps(tree).encode())
    return caught.value.code


def test_bundle_is_read_back_byte_for_byte() -> None:
    assert read_bundle(write_bundle(GOOD)) == GOOD


def test_bundle_is_written_as_documented() -> None:
    assert list(BUNDLE) == ["bastideCollateral", "tcbInfo", "qeIdentity", "tcbSigningChain", "pckCrl", "rootCaCrl"]
    assert BUNDLE["tcbInfo"].encode() == GOOD.tcb_info
    assert base64.b64decode(BUNDLE["pckCrl"]) == GOOD.pck_crl


def test_documents_of_dcap_qvl_are_read_as_they_were_signed() -> None:
    collateral = read_bundle(json.dumps(QVL).encode())
    assert (collateral.tcb_info, collateral.qe_identity) == (GOOD.tcb_info, GOOD.qe_identity)
    assert verify(WORLD.quote, collateral, WORLD.at, root=WORLD.root).acceptable
    with_pck = QVL | {"pck_certificate_chain": "anything"}
    assert read_bundle(json.dumps(with_pck).encode()) == collateral


@pytest.mark.parametrize(
    ("code", "tree"),
    [
        ("collateral.bundle.format", []),
        ("collateral.bundle.format", {}),
        ("collateral.bundle.version", BUNDLE | {"bastideCollateral": 2}),
        ("collateral.bundle.version", BUNDLE | {"bastideCollateral": "1"}),
        ("collateral.bundle.member", BUNDLE | {"more": 1}),
        ("collateral.bundle.member", {name: BUNDLE[name] for name in BUNDLE if name != "pckCrl"}),
        ("collateral.bundle.member", BUNDLE | {"tcbInfo": {}}),
        ("collateral.bundle.member", BUNDLE | {"tcbInfo": "é"}),
        ("collateral.bundle.member", BUNDLE | {"pckCrl": "not base64"}),
        ("collateral.bundle.member", QVL | {"pck_crl": "zz"}),
        ("collateral.bundle.member", QVL | {"tcb_info_signature": 1}),
        ("collateral.bundle.chains", QVL | {"qe_identity_issuer_chain": "another"}),
    ],
)
def test_refuses_what_is_no_bundle_by_its_own_code(code: str, tree: object) -> None:
    assert code_of(tree) == code


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a": 1} {}', b"[" * 100_000, b"\xff", b" " * (1 << 20) + b"{}"])
def test_refuses_what_is_no_json(raw: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        read_bundle(raw)
    assert caught.value.code == "collateral.bundle.format"


def test_documents_that_are_no_text_cannot_be_written() -> None:
    spoilt: Collateral = replace(GOOD, tcb_info=b"\xff")
    with pytest.raises(MalformedError) as caught:
        write_bundle(spoilt)
    assert caught.value.code == "collateral.bundle.text"
