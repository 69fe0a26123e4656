import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from bastide.errors import MalformedError
from bastide.pki.chain import (
    INTEL_ROOT,
    MAX_PEM,
    REQUIRED_EXTENSIONS,
    TrustAnchor,
    basic_constraints,
    common_name,
    dump_pem_chain,
    is_self_issued,
    issuer_is,
    load_pem_chain,
    missing_extensions,
    signed_by,
)
from bastide.sim.intel import Pki, issue, root_profile, tcb_signing_profile
from bastide.sim.intel.certificates import issue_root
from support.real_pki import UNREADABLE, real_chain_texts, real_chains
from support.vectors import vectors

AT = datetime(2026, 1, 1, tzinfo=UTC)
PKI = Pki.create(AT)
ROOT, CA, SIGNER = PKI.root.certificate, PKI.platform_ca.certificate, PKI.tcb_signing.certificate
ROOT_PEM = dump_pem_chain((ROOT,))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def code_of(pem: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        load_pem_chain(pem)
    return caught.value.code


def odd_certificate(
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    algorithm: SHA256 | SHA384,
    extension: x509.ExtensionType | None = None,
) -> bytes:
    """A self-signed certificate with one thing in it that this PKI does not have."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(ROOT.subject)
        .issuer_name(ROOT.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return dump_pem_chain((builder.sign(key, algorithm),))


def test_loads_certificates_in_the_order_given() -> None:
    assert load_pem_chain(dump_pem_chain((SIGNER, ROOT))) == (SIGNER, ROOT)
    assert load_pem_chain(dump_pem_chain((ROOT, SIGNER))) == (ROOT, SIGNER)


def test_loads_a_chain_that_ends_with_nul_as_in_quotes() -> None:
    assert load_pem_chain(ROOT_PEM + b"\0\0") == (ROOT,)


@pytest.mark.parametrize("pem", [b"", b"\0", ROOT_PEM * 9])
def test_refuses_no_certificate_and_more_than_eight(pem: bytes) -> None:
    assert code_of(pem) == "pki.chain.count"


@pytest.mark.parametrize("pem", [b"junk", ROOT_PEM + b"x", b"x" + ROOT_PEM, ROOT_PEM[:-20], ROOT_PEM[30:]])
def test_refuses_text_between_the_certificates(pem: bytes) -> None:
    assert code_of(pem) == "pki.chain.pem"


def test_refuses_pem_longer_than_the_bound() -> None:
    assert load_pem_chain(ROOT_PEM.ljust(MAX_PEM))
    assert code_of(ROOT_PEM.ljust(MAX_PEM + 1)) == "pki.chain.size"


@pytest.mark.parametrize(
    "body", [b"", b"AAAA", b"!!!!", ROOT_PEM.splitlines()[1]], ids=["empty", "short", "signs", "cut"]
)
def test_refuses_a_block_that_holds_no_certificate(body: bytes) -> None:
    pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"
    assert code_of(pem) == "pki.certificate.format"


def test_refuses_another_curve() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    assert code_of(odd_certificate(key=key, algorithm=SHA256())) == "pki.certificate.algorithm"


def test_refuses_another_hash() -> None:
    assert code_of(odd_certificate(key=new_key(), algorithm=SHA384())) == "pki.certificate.algorithm"


def test_refuses_an_rsa_key() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert code_of(odd_certificate(key=key, algorithm=SHA256())) == "pki.certificate.algorithm"


def test_refuses_a_certificate_of_version_1() -> None:
    der = x509.load_pem_x509_certificate(odd_certificate(key=new_key(), algorithm=SHA256())).public_bytes(Encoding.DER)
    # A certificate without version number is of version 1: the number goes, and two lengths shrink by its five bytes.
    head, tail = der.split(b"\xa0\x03\x02\x01\x02", 1)
    signed = len(x509.load_der_x509_certificate(der).tbs_certificate_bytes) - len(head[4:]) - 5
    wrapped = b"\x30\x82" + signed.to_bytes(2) + tail if len(head) == 8 else b"\x30\x81" + bytes((signed,)) + tail
    pem = base64.encodebytes(b"\x30\x82" + len(wrapped).to_bytes(2) + wrapped)
    text = b"-----BEGIN CERTIFICATE-----\n" + pem + b"-----END CERTIFICATE-----\n"
    assert code_of(text) == "pki.certificate.algorithm"


def test_refuses_a_critical_extension_that_it_does_not_understand() -> None:
    extension = x509.NameConstraints([x509.DNSName("example.org")], None)
    pem = odd_certificate(key=new_key(), algorithm=SHA256(), extension=extension)
    assert code_of(pem) == "pki.certificate.critical"


def test_tells_issuer_names_apart_from_signatures() -> None:
    other = Pki.create(AT).root.certificate
    assert issuer_is(CA, ROOT)
    assert signed_by(CA, ROOT)
    assert issuer_is(CA, other)
    assert not signed_by(CA, other)
    assert not issuer_is(CA, SIGNER)
    profile = replace(tcb_signing_profile(AT), issuer=x509.Name([]))
    misnamed = issue(profile, new_key().public_key(), PKI.root)
    assert signed_by(misnamed, ROOT)
    assert not issuer_is(misnamed, ROOT)


def test_a_certificate_is_not_signed_by_a_key_of_another_kind() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    pem = odd_certificate(key=key, algorithm=SHA256())
    foreign = x509.load_pem_x509_certificate(pem)
    assert not signed_by(foreign, foreign)
    assert not signed_by(CA, foreign)


def test_a_certificate_with_another_hash_is_not_signed_for_us() -> None:
    foreign = x509.load_pem_x509_certificate(odd_certificate(key=new_key(), algorithm=SHA384()))
    assert not signed_by(foreign, foreign)


def test_tells_self_issued_roots_from_others() -> None:
    assert is_self_issued(ROOT)
    assert not is_self_issued(CA)


def test_names_the_required_extensions_that_are_missing() -> None:
    assert missing_extensions(ROOT) == ()
    for oid in REQUIRED_EXTENSIONS:
        profile = replace(tcb_signing_profile(AT), without=frozenset({oid}))
        assert missing_extensions(issue(profile, new_key().public_key(), PKI.root)) == (oid,)


def test_gives_basic_constraints_as_they_stand() -> None:
    assert basic_constraints(ROOT) == x509.BasicConstraints(ca=True, path_length=1)
    assert basic_constraints(CA) == x509.BasicConstraints(ca=True, path_length=0)
    assert basic_constraints(SIGNER) == x509.BasicConstraints(ca=False, path_length=None)
    profile = replace(tcb_signing_profile(AT), without=frozenset({ExtensionOID.BASIC_CONSTRAINTS}))
    assert basic_constraints(issue(profile, new_key().public_key(), PKI.root)) is None


def test_gives_the_common_name_or_nothing() -> None:
    assert "Intel SGX Root CA" in common_name(ROOT.subject)
    assert common_name(x509.Name([])) == ""


def test_an_anchor_from_a_simulation_root_is_marked_as_simulation() -> None:
    anchor = TrustAnchor.from_pem(ROOT_PEM)
    assert anchor.simulation
    assert anchor.pins(ROOT)
    assert not anchor.pins(CA)
    assert anchor == PKI.trust_anchor


def test_an_anchor_pins_the_key_and_not_the_certificate() -> None:
    profile = replace(root_profile(AT + timedelta(days=9)), common_name="SIMULATION root, issued again")
    assert PKI.trust_anchor.pins(issue_root(profile, PKI.root.key).certificate)


def test_an_anchor_does_not_pin_a_key_of_another_kind() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    foreign = x509.load_pem_x509_certificate(odd_certificate(key=key, algorithm=SHA256()))
    assert not PKI.trust_anchor.pins(foreign)


def anchor_code(pem: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        TrustAnchor.from_pem(pem)
    return caught.value.code


def test_refuses_an_anchor_of_a_root_that_is_neither_intels_nor_marked() -> None:
    profile = replace(root_profile(AT), common_name="Intel SGX Root CA", organization="Intel Corporation")
    pem = dump_pem_chain((issue_root(profile, new_key()).certificate,))
    assert anchor_code(pem) == "pki.anchor.unmarked"


def test_refuses_an_anchor_of_a_certificate_that_is_no_root() -> None:
    assert anchor_code(dump_pem_chain((CA,))) == "pki.anchor.root"


def test_refuses_an_anchor_of_a_root_that_another_key_signed() -> None:
    profile = replace(root_profile(AT), issuer=root_profile(AT).subject)
    forged = issue(profile, new_key().public_key(), PKI.root)
    assert anchor_code(dump_pem_chain((forged,))) == "pki.anchor.root"


def test_refuses_an_anchor_of_two_certificates() -> None:
    assert anchor_code(dump_pem_chain((ROOT, ROOT))) == "pki.anchor.count"


def test_refuses_intels_key_as_simulation() -> None:
    with pytest.raises(MalformedError) as caught:
        TrustAnchor(public_point=INTEL_ROOT.public_point, name="mine", simulation=True)
    assert caught.value.code == "pki.anchor.intel"


def test_refuses_an_anchor_whose_key_is_no_curve_point() -> None:
    with pytest.raises(MalformedError) as caught:
        TrustAnchor(public_point=b"\x04" + bytes(64), name="nothing", simulation=True)
    assert caught.value.code == "pki.anchor.key"


def test_real_chains_from_vectors_lead_to_the_pinned_root_in_both_its_issues() -> None:
    roots = set()
    for name, (leaf, *others) in real_chains().items():
        # One real quote gives root before intermediate.
        intermediate, root = sorted(others, key=is_self_issued)
        assert INTEL_ROOT.pins(root), name
        assert signed_by(root, root)
        if name != "sgx3-oe-reportbad":
            assert all((signed_by(leaf, intermediate), issuer_is(leaf, intermediate))), name
            assert all((signed_by(intermediate, root), issuer_is(intermediate, root))), name
        assert [missing_extensions(certificate) for certificate in (leaf, intermediate, root)] == [(), (), ()]
        assert TrustAnchor.from_pem(dump_pem_chain((root,))) == INTEL_ROOT
        roots.add((root.not_valid_after_utc.year, root.fingerprint(SHA256())))
    assert {year for year, _ in roots} == {2033, 2049}
    assert {fingerprint for _, fingerprint in roots} == INTEL_ROOT.self_signed


def test_the_damaged_chains_of_vectors_are_refused_or_fail_their_checks() -> None:
    texts = real_chain_texts()
    for name in UNREADABLE:
        assert code_of(texts[name]) == "pki.certificate.format"
    leaf, intermediate, root = real_chains()["sgx3-oe-reportbad"]
    assert not issuer_is(leaf, intermediate)
    assert not signed_by(intermediate, root)


def test_real_tcb_signing_chains_from_vectors_lead_to_the_pinned_root() -> None:
    for path in sorted((vectors("dcap") / "collateral").glob("*/tcb_signing_chain.pem")):
        signer, root = load_pem_chain(path.read_bytes())
        assert INTEL_ROOT.pins(root)
        assert signed_by(signer, root)
        assert common_name(signer.subject) == "Intel SGX TCB Signing"


def test_the_root_of_intels_sample_pki_in_vectors_is_not_taken_for_intels() -> None:
    (pem,) = (vectors("dcap") / "intel_sample_test_pki").glob("**/trustedRootCaCert.pem")
    assert anchor_code(pem.read_bytes()) == "pki.anchor.unmarked"
