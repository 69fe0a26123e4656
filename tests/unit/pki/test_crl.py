import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.errors import MalformedError
from bastide.pki.chain import load_pem_chain
from bastide.pki.crl import MAX_CRL, Crl
from bastide.sim.intel import Pki, issue_crl, pck_crl_profile
from support.vectors import vectors

AT = datetime(2026, 1, 1, tzinfo=UTC)
PKI = Pki.create(AT)
CA = PKI.platform_ca
PROFILE = replace(pck_crl_profile(AT), revoked=(7, 0xD52864CBB1CEFA9DE768485947EBDC026799B4), number=12)
DER = issue_crl(PROFILE, CA)


def code_of(raw: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        Crl.parse(raw)
    return caught.value.code


def pem(raw: bytes) -> bytes:
    text = base64.encodebytes(raw).decode()
    return f"-----BEGIN X509 CRL-----\n{text}-----END X509 CRL-----\n".encode()


def test_reads_what_a_list_says() -> None:
    crl = Crl.parse(DER)
    assert crl.revoked == frozenset(PROFILE.revoked)
    assert crl.number == 12
    assert crl.has_authority_key_identifier
    assert (crl.this_update, crl.next_update) == (AT, AT + timedelta(days=30))


@pytest.mark.parametrize(
    "text",
    [
        pem(DER),
        pem(DER) + b"\0",
        DER.hex().encode(),
        DER.hex().upper().encode() + b"\n",
        DER.hex().encode() + b"\0",
    ],
)
def test_reads_pem_and_hex_as_the_same_list(text: bytes) -> None:
    assert Crl.parse(text) == Crl.parse(DER)


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"0", b"abc", b"-----BEGIN", pem(b""), DER[:-1], DER + b"\0", DER.hex().encode() + b"00"]
)
def test_refuses_what_is_no_list(raw: bytes) -> None:
    assert code_of(raw) == "pki.crl.format"


def test_refuses_a_list_longer_than_the_bound() -> None:
    assert code_of(bytes(MAX_CRL + 1)) == "pki.crl.size"


def test_refuses_a_list_without_next_update() -> None:
    # The date is cut out of the list by hand, since no library writes such a list.
    this_update = DER.index(b"\x17\x0d")
    cut = bytearray(DER[: this_update + 15] + DER[this_update + 30 :])
    assert cut[:2] == b"\x30\x82"
    assert cut[4:6] in (b"\x30\x82", b"\x30\x81")
    cut[2:4] = (len(cut) - 4).to_bytes(2)
    if cut[5] == 0x82:
        cut[6:8] = (int.from_bytes(cut[6:8]) - 15).to_bytes(2)
    else:
        cut[6] -= 15
    assert code_of(bytes(cut)) == "pki.crl.next-update"


def odd_crl(algorithm: SHA256 | SHA384, extension: x509.ExtensionType) -> bytes:
    """A list with a hash or a critical extension that lists of this PKI do not have."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(CA.certificate.subject)
        .last_update(AT)
        .next_update(AT + timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.DeltaCRLIndicator))
    )
    return builder.sign(CA.key, algorithm).public_bytes(Encoding.DER)


def test_refuses_another_hash() -> None:
    assert code_of(odd_crl(SHA384(), x509.CRLNumber(1))) == "pki.crl.algorithm"


def test_refuses_a_partial_list() -> None:
    assert code_of(odd_crl(SHA256(), x509.DeltaCRLIndicator(1))) == "pki.crl.critical"


def test_tells_missing_extensions() -> None:
    assert Crl.parse(issue_crl(replace(PROFILE, number=None), CA)).number is None
    bare = Crl.parse(issue_crl(replace(PROFILE, authority_key_identifier=False), CA))
    assert not bare.has_authority_key_identifier


def test_tells_issuer_names_apart_from_signatures() -> None:
    crl = Crl.parse(DER)
    assert crl.is_issued_by(CA.certificate)
    assert crl.is_signed_by(CA.certificate)
    other = Pki.create(AT).platform_ca.certificate
    assert crl.is_issued_by(other)
    assert not crl.is_signed_by(other)
    assert not crl.is_issued_by(PKI.root.certificate)


def test_a_list_with_a_changed_entry_is_not_signed() -> None:
    forged = DER.replace(PROFILE.revoked[1].to_bytes(19), PROFILE.revoked[1].to_bytes(19)[::-1])
    assert forged != DER
    assert not Crl.parse(forged).is_signed_by(CA.certificate)


def test_is_current_from_this_update_to_next_update_both_included() -> None:
    crl, second = Crl.parse(DER), timedelta(seconds=1)
    assert crl.is_current(crl.this_update)
    assert crl.is_current(crl.next_update)
    assert not crl.is_current(crl.this_update - second)
    assert not crl.is_current(crl.next_update + second)


def test_revokes_by_serial_number() -> None:
    crl = Crl.parse(issue_crl(replace(PROFILE, revoked=(CA.certificate.serial_number,)), PKI.root))
    assert crl.revokes(CA.certificate)
    assert not crl.revokes(PKI.tcb_signing.certificate)


def test_real_lists_from_vectors_are_signed_by_their_issuers() -> None:
    for folder in sorted((vectors("dcap") / "collateral").iterdir()):
        _, root = load_pem_chain((folder / "tcb_signing_chain.pem").read_bytes())
        crl = Crl.parse((folder / "root_ca_crl.der").read_bytes())
        assert crl.is_issued_by(root)
        assert crl.is_signed_by(root)
        pck = Crl.parse((folder / "pck_crl.der").read_bytes())
        assert pck.number == 1
        assert pck.has_authority_key_identifier
        assert not pck.is_signed_by(root)
