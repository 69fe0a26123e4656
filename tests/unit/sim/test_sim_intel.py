import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.dcap.collateral import Collateral
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT, dump_pem_chain, load_pem_chain, missing_extensions, public_key
from bastide.pki.crl import Crl
from bastide.pki.ecdsa import verify_raw
from bastide.pki.pck import SgxExtensions, sgx_extensions
from bastide.sgx.types import Fmspc, MrSigner
from bastide.sim.intel import (
    QE_MR_SIGNER,
    Pki,
    Profile,
    QeLevel,
    TcbLevel,
    certification_data,
    collateral,
    issue_pck,
    pck_crl_profile,
    pck_profile,
    platform,
    platform_ca_profile,
    qe_identity_document,
    root_crl_profile,
    tcb_info_document,
)
from support.foreign import dcap_qvl_collateral
from support.vectors import vectors

AT = datetime(2026, 1, 1, tzinfo=UTC)
NOW = AT + timedelta(days=1)
PKI = Pki.create(AT)
PCK = ec.derive_private_key(7, ec.SECP256R1())
ATTESTATION = ec.derive_private_key(9, ec.SECP256R1())
INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def report(report_data: bytes, *, mr_signer: bytes = bytes(32), isv_svn: int = 8) -> bytes:
    """An SGX report body, 384 bytes: production enclave, ISVPRODID 1."""
    body = bytearray(384)
    body[48:64] = bytes.fromhex("1100000000000000e700000000000000")
    body[128:160] = mr_signer
    body[256:260] = (1).to_bytes(2, "little") + isv_svn.to_bytes(2, "little")
    body[320:384] = report_data.ljust(64, b"\0")
    return bytes(body)


def quote(certification: bytes) -> bytes:
    """A version 3 quote, written by hand so that this test leans on no other part of Bastide."""
    point = ATTESTATION.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    signed = bytes.fromhex("03000200000000000800") + b"\x0d\0" + INTEL_QE_VENDOR_ID + bytes(20) + report(b"hello")
    authentication = bytes(range(32))
    qe_report = report(sha256(point + authentication).digest(), mr_signer=QE_MR_SIGNER)
    tail = (
        raw_signature(ATTESTATION, signed)
        + point
        + qe_report
        + raw_signature(PCK, qe_report)
        + len(authentication).to_bytes(2, "little")
        + authentication
        + (5).to_bytes(2, "little")
        + len(certification).to_bytes(4, "little")
        + certification
    )
    return signed + len(tail).to_bytes(4, "little") + tail


def pck_for(sgx: SgxExtensions, pki: Pki = PKI) -> x509.Certificate:
    return issue_pck(pki, PCK.public_key(), sgx, AT)


def foreign_verdict(pck: x509.Certificate, parts: Collateral, pki: Pki = PKI) -> str:
    """Status that dcap-qvl, a verifier that is not ours, gives a quote from this platform."""
    chain = dump_pem_chain((pki.pck_ca(pck).certificate, pki.root.certificate))
    foreign = dcap_qvl.QuoteCollateralV3.from_json(dcap_qvl_collateral(parts, chain))
    root = pki.root.certificate.public_bytes(Encoding.DER)
    verdict = dcap_qvl.verify_with_root_ca(quote(certification_data(pki, pck)), foreign, root, int(NOW.timestamp()))
    return str(verdict.status)


@pytest.mark.parametrize("platform_ca", [True, False])
def test_dcap_qvl_accepts_a_simulated_platform_of_either_ca(platform_ca: bool) -> None:
    pck = pck_for(platform(platform_ca=platform_ca))
    assert foreign_verdict(pck, collateral(PKI, pck, AT)) == "UpToDate"


def test_dcap_qvl_sees_a_platform_below_the_first_level_as_out_of_date() -> None:
    pck = pck_for(platform())
    older = tcb_info_document(platform(pce_svn=14), AT)
    assert foreign_verdict(pck, collateral(PKI, pck, AT, tcb_info=older)) == "OutOfDate"


@pytest.mark.parametrize("revoked", ["pck", "ca"])
def test_dcap_qvl_refuses_a_platform_that_is_revoked(revoked: str) -> None:
    pck = pck_for(platform())
    root_ca_crl, pck_crl = root_crl_profile(AT), pck_crl_profile(AT)
    if revoked == "pck":
        pck_crl = replace(pck_crl, revoked=(pck.serial_number,))
    else:
        root_ca_crl = replace(root_ca_crl, revoked=(PKI.platform_ca.certificate.serial_number,))
    parts = collateral(PKI, pck, AT, root_ca_crl=root_ca_crl, pck_crl=pck_crl)
    with pytest.raises(ValueError, match=r"(?i)revoked"):
        foreign_verdict(pck, parts)


def test_dcap_qvl_with_intels_root_refuses_the_simulation() -> None:
    pck = pck_for(platform())
    chain = dump_pem_chain((PKI.platform_ca.certificate, PKI.root.certificate))
    foreign = dcap_qvl.QuoteCollateralV3.from_json(dcap_qvl_collateral(collateral(PKI, pck, AT), chain))
    with pytest.raises(ValueError, match="InvalidCrlSignature"):
        dcap_qvl.verify(quote(certification_data(PKI, pck)), foreign, int(NOW.timestamp()))


def test_dcap_qvl_reads_the_sgx_extension_as_we_do() -> None:
    sgx = platform(components=(200, *range(15)), pce_svn=300)
    read = dcap_qvl.parse_pck_extension_from_pem(dump_pem_chain((pck_for(sgx),)))
    assert bytes(read.fmspc) == sgx.fmspc
    assert bytes(read.ppid) == sgx.ppid
    assert bytes(read.cpu_svn) == sgx.tcb.cpu_svn
    assert read.pce_svn == 300


def test_every_certificate_is_marked_as_simulation_and_has_intels_extensions() -> None:
    chain = (*load_pem_chain(certification_data(PKI, pck_for(platform()))), PKI.processor_ca.certificate)
    for certificate in (*chain, PKI.tcb_signing.certificate):
        assert "SIMULATION" in certificate.subject.rfc4514_string()
        assert missing_extensions(certificate) == ()


def test_the_chain_verifies_by_cryptographys_own_reading() -> None:
    leaf, intermediate, root = load_pem_chain(certification_data(PKI, pck_for(platform())))
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    PKI.tcb_signing.certificate.verify_directly_issued_by(root)
    PKI.processor_ca.certificate.verify_directly_issued_by(root)


def test_the_anchor_says_simulation_and_is_not_intels() -> None:
    assert PKI.trust_anchor.simulation
    assert PKI.trust_anchor.pins(PKI.root.certificate)
    assert not INTEL_ROOT.pins(PKI.root.certificate)


def test_the_platform_of_a_certificate_is_the_one_asked_for() -> None:
    sgx = platform(ppid=b"p" * 16, components=(128,) * 16, pce_svn=9, fmspc=Fmspc(b"OTHER!"))
    assert sgx_extensions(pck_for(sgx)) == sgx
    assert pck_for(platform()).serial_number != pck_for(platform()).serial_number


def test_the_profile_of_a_pck_certificate_can_be_replaced() -> None:
    profile = replace(pck_profile(AT, platform()), common_name="SIMULATION something else", serial=5)
    pck = issue_pck(PKI, PCK.public_key(), platform(), AT, profile=profile, signer=PKI.processor_ca)
    assert pck.serial_number == 5
    assert pck.issuer == PKI.processor_ca.certificate.subject


def test_the_profile_of_a_ca_can_be_replaced() -> None:
    profile: Profile = replace(platform_ca_profile(AT), common_name="SIMULATION nobody", issuer=x509.Name([]))
    pki = Pki.create(AT, platform_ca=profile)
    assert pki.platform_ca.certificate.issuer == x509.Name([])
    assert "nobody" in pki.platform_ca.certificate.subject.rfc4514_string()


def test_revocation_lists_are_those_of_the_right_cas() -> None:
    for platform_ca, ca in ((True, PKI.platform_ca), (False, PKI.processor_ca)):
        parts = collateral(PKI, pck_for(platform(platform_ca=platform_ca)), AT)
        pck_crl, root_crl = Crl.parse(parts.pck_crl), Crl.parse(parts.root_ca_crl)
        assert pck_crl.is_issued_by(ca.certificate)
        assert pck_crl.is_signed_by(ca.certificate)
        assert root_crl.is_signed_by(PKI.root.certificate)


def test_a_revocation_list_can_name_another_issuer() -> None:
    profile = replace(pck_crl_profile(AT), issuer=x509.Name([]))
    parts = collateral(PKI, pck_for(platform()), AT, pck_crl=profile)
    assert Crl.parse(parts.pck_crl).issuer == x509.Name([])


@pytest.mark.parametrize("part", ["tcb_info", "qe_identity"])
def test_documents_are_compact_json_signed_over_the_inner_bytes(part: str) -> None:
    raw = getattr(collateral(PKI, pck_for(platform()), AT), part)
    outer = json.loads(raw)
    (name, inner), (_, signature) = outer.items()
    signed = raw[len(name) + 4 : raw.rindex(b',"signature"')]
    assert json.loads(signed) == inner
    assert b" " not in raw
    assert verify_raw(public_key(PKI.tcb_signing.certificate), bytes.fromhex(signature), signed)


def shape(document: bytes) -> dict[str, object]:
    """The signed object with its levels and values replaced by what they are made of."""
    (body, _) = json.loads(document).values()
    level = body.pop("tcbLevels")[0]
    kinds = {name: type(value).__name__ for name, value in body.items()}
    return {**kinds, "tcb": list(level["tcb"]), "level": [name for name in level if name != "advisoryIDs"]}


def test_documents_have_the_shape_of_real_ones_from_vectors() -> None:
    folder = vectors("dcap") / "collateral" / "SGX-00A067110000-e17-2025-06-19"
    ours = collateral(PKI, pck_for(platform()), AT)
    for name, made in (("tcb_info", ours.tcb_info), ("qe_identity", ours.qe_identity)):
        real = (folder / f"{name}.json").read_bytes()
        assert list(shape(made).items()) == list(shape(real).items())
        assert list(json.loads(made)) == list(json.loads(real))


def test_levels_statuses_and_identity_are_as_asked() -> None:
    level = TcbLevel(components=(1,) * 15, pce_svn=2, status="Revoked", date=AT, advisory_ids=("INTEL-SA-1",))
    info = replace(tcb_info_document(platform(), AT), levels=(level,), evaluation_data_number=99)
    mr_signer = MrSigner(b"\xab" * 32)
    qe_level = QeLevel(isv_svn=3, status="OutOfDate")
    identity = replace(qe_identity_document(AT), mr_signer=mr_signer, isv_prod_id=2, levels=(qe_level,))
    parts = collateral(PKI, pck_for(platform()), AT, tcb_info=info, qe_identity=identity)
    body = json.loads(parts.tcb_info)["tcbInfo"]
    assert body["tcbEvaluationDataNumber"] == 99
    assert body["tcbLevels"] == [
        {
            "tcb": {"sgxtcbcomponents": [{"svn": 1}] * 15, "pcesvn": 2},
            "tcbDate": "2026-01-01T00:00:00Z",
            "tcbStatus": "Revoked",
            "advisoryIDs": ["INTEL-SA-1"],
        }
    ]
    identity_body = json.loads(parts.qe_identity)["enclaveIdentity"]
    assert identity_body["mrsigner"] == "AB" * 32
    assert identity_body["isvprodid"] == 2
    assert identity_body["tcbLevels"][0]["tcb"] == {"isvsvn": 3}


def test_a_kept_pki_is_the_same_when_it_comes_back() -> None:
    again = Pki.from_state(PKI.export_state())
    assert again.export_state() == PKI.export_state()
    assert again.trust_anchor == PKI.trust_anchor
    pck = pck_for(platform(), again)
    assert foreign_verdict(pck, collateral(again, pck, AT), again) == "UpToDate"


def state_code(state: dict[str, bytes]) -> str:
    with pytest.raises(MalformedError) as caught:
        Pki.from_state(state)
    return caught.value.code


def test_refuses_a_kept_pki_with_a_part_missing() -> None:
    for name in PKI.export_state():
        state = PKI.export_state()
        del state[name]
        assert state_code(state) == "sim.state.missing"


def test_refuses_a_kept_pki_whose_key_is_another_or_none() -> None:
    state = PKI.export_state()
    other = Pki.create(AT).export_state()
    assert state_code({**state, "tcb_signing.key.pem": other["tcb_signing.key.pem"]}) == "sim.state.key"
    assert state_code({**state, "tcb_signing.key.pem": b"junk"}) == "sim.state.key"


def test_refuses_a_kept_pki_whose_root_does_not_say_simulation() -> None:
    root = replace(platform_ca_profile(AT), common_name="Intel SGX Root CA", organization="Intel Corporation")
    assert state_code(Pki.create(AT, root=root).export_state()) == "pki.anchor.unmarked"
