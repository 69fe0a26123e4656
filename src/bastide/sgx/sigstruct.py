"""SIGSTRUCT: the signer's certificate of an enclave, its checks and its making.

The RSA check needs no library: with e = 3 the processor itself asks for three big-integer products, and so do we.

Source: Intel SDM Vol. 3D, "Enclave Signature Structure (SIGSTRUCT)" and "EINIT"; RFC 8017 section 9.2.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bastide.checks import Check
from bastide.errors import MalformedError
from bastide.sgx.attributes import Attributes
from bastide.sgx.codec import Layout, data, number, reserved
from bastide.sgx.types import MrEnclave, MrSigner

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SIGSTRUCT_SIZE = 1808
KEY_SIZE = 384
"""Bytes of modulus, signature, q1 and q2: RSA-3072."""

EXPONENT = 3
HEADER_START = bytes.fromhex("06000000e100000000000100")
"""First 12 bytes of every SIGSTRUCT; the TYPE dword that follows them varies."""

HEADER2 = bytes.fromhex("01010000600000006000000001000000")
"""Bytes 24 to 39 of every SIGSTRUCT."""

VENDOR_INTEL = 0x8086
TYPES = (0, 0x8000_0000)
_SOURCE = 'Intel SDM Vol. 3D, "EINIT"'
# RFC 8017 9.2: DigestInfo of SHA-256, and the whole encoded message in front of the digest.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_ENCODING_START = b"\x00\x01" + b"\xff" * (KEY_SIZE - 3 - len(_DIGEST_INFO) - 32) + b"\x00" + _DIGEST_INFO

_LAYOUT = Layout(
    "sgx.sigstruct",
    SIGSTRUCT_SIZE,
    'Intel SDM Vol. 3D, "Enclave Signature Structure (SIGSTRUCT)"',
    data("header", 0, 12),
    number("type", 12, 4),
    number("vendor", 16, 4),
    number("date", 20, 4),
    data("header2", 24, 16),
    number("sw_defined", 40, 4),
    reserved(44, 84),
    data("modulus", 128, KEY_SIZE),
    number("exponent", 512, 4),
    data("signature", 516, KEY_SIZE),
    number("misc_select", 900, 4),
    number("misc_mask", 904, 4),
    number("cet_attributes", 908, 1),
    number("cet_attributes_mask", 909, 1),
    reserved(910, 2),
    data("isv_family_id", 912, 16),
    data("attributes", 928, 16),
    data("attribute_mask", 944, 16),
    data("enclave_hash", 960, 32),
    reserved(992, 16),
    data("isv_ext_prod_id", 1008, 16),
    number("isv_prod_id", 1024, 2),
    number("isv_svn", 1026, 2),
    reserved(1028, 12),
    data("q1", 1040, KEY_SIZE),
    data("q2", 1424, KEY_SIZE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigStruct:
    """SIGSTRUCT, 1808 bytes, little-endian integers (also the four RSA numbers of 384 bytes each).

    Attributes:
        type: 0, or 0x80000000 as in Intel's own launch enclave.
        vendor: 0, or 0x8086 for Intel.
        date: binary-coded decimal yyyymmdd; see ``date_text``.
        sw_defined: 32 bits, free.
        modulus: RSA modulus N.
        exponent: 32 bits; must be 3 for a valid signature.
        signature: S, RSA PKCS#1 v1.5 with SHA-256 over ``signing_input``.
        misc_select, misc_mask: 32 bits each.
        cet_attributes, cet_attributes_mask: 8 bits each.
        isv_family_id: 16 bytes (with KSS).
        attributes, attribute_mask: what the enclave must have, and which bits of it are forced.
        enclave_hash: the MRENCLAVE that was signed, 32 bytes.
        isv_ext_prod_id: 16 bytes (with KSS).
        isv_prod_id, isv_svn: 16 bits each.
        q1, q2: quotients that let the processor reduce without dividing.

    Source: Intel SDM Vol. 3D, "Enclave Signature Structure (SIGSTRUCT)".
    """

    type: int = 0
    vendor: int = 0
    date: int
    sw_defined: int = 0
    modulus: bytes = bytes(KEY_SIZE)
    exponent: int = EXPONENT
    signature: bytes = bytes(KEY_SIZE)
    misc_select: int = 0
    misc_mask: int = 0xFFFF_FFFF
    cet_attributes: int = 0
    cet_attributes_mask: int = 0
    isv_family_id: bytes = bytes(16)
    attributes: Attributes
    attribute_mask: Attributes
    enclave_hash: MrEnclave
    isv_ext_prod_id: bytes = bytes(16)
    isv_prod_id: int
    isv_svn: int
    q1: bytes = bytes(KEY_SIZE)
    q2: bytes = bytes(KEY_SIZE)

    @classmethod
    def parse(cls, raw: bytes) -> "SigStruct":
        """Read 1808 bytes. The signature is not checked: see ``checks`` and ``signature_is_valid``.

        Raises:
            MalformedError: ``sgx.sigstruct.size``, ``sgx.sigstruct.reserved``, ``sgx.sigstruct.header``.
        """
        record = _LAYOUT.parse(raw)
        numbers, chunks = record.numbers, record.data
        if chunks["header"] != HEADER_START or chunks["header2"] != HEADER2 or numbers["type"] not in TYPES:
            raise MalformedError(
                "sgx.sigstruct.header",
                f"expected the two SIGSTRUCT headers, seen {raw[:16].hex()} and {raw[24:40].hex()}",
                hint="check the offset: a SIGSTRUCT starts with 06000000e1000000",
            )
        return cls(
            type=numbers["type"],
            vendor=numbers["vendor"],
            date=numbers["date"],
            sw_defined=numbers["sw_defined"],
            modulus=chunks["modulus"],
            exponent=numbers["exponent"],
            signature=chunks["signature"],
            misc_select=numbers["misc_select"],
            misc_mask=numbers["misc_mask"],
            cet_attributes=numbers["cet_attributes"],
            cet_attributes_mask=numbers["cet_attributes_mask"],
            isv_family_id=chunks["isv_family_id"],
            attributes=Attributes.parse(chunks["attributes"]),
            attribute_mask=Attributes.parse(chunks["attribute_mask"]),
            enclave_hash=MrEnclave(chunks["enclave_hash"]),
            isv_ext_prod_id=chunks["isv_ext_prod_id"],
            isv_prod_id=numbers["isv_prod_id"],
            isv_svn=numbers["isv_svn"],
            q1=chunks["q1"],
            q2=chunks["q2"],
        )

    def build(self) -> bytes:
        """The 1808 bytes.

        Raises:
            MalformedError: ``sgx.sigstruct.field``.
        """
        return _LAYOUT.build(
            {
                "header": HEADER_START,
                "type": self.type,
                "vendor": self.vendor,
                "date": self.date,
                "header2": HEADER2,
                "sw_defined": self.sw_defined,
                "modulus": self.modulus,
                "exponent": self.exponent,
                "signature": self.signature,
                "misc_select": self.misc_select,
                "misc_mask": self.misc_mask,
                "cet_attributes": self.cet_attributes,
                "cet_attributes_mask": self.cet_attributes_mask,
                "isv_family_id": self.isv_family_id,
                "attributes": self.attributes.build(),
                "attribute_mask": self.attribute_mask.build(),
                "enclave_hash": self.enclave_hash,
                "isv_ext_prod_id": self.isv_ext_prod_id,
                "isv_prod_id": self.isv_prod_id,
                "isv_svn": self.isv_svn,
                "q1": self.q1,
                "q2": self.q2,
            }
        )

    @property
    def date_text(self) -> str:
        """The signing date as eight digits, yyyymmdd; letters a to f where the field is not decimal."""
        return f"{self.date:08x}"

    @property
    def signing_input(self) -> bytes:
        """The 256 bytes that are signed: 0 to 127 and 900 to 1027."""
        raw = self.build()
        return raw[:128] + raw[900:1028]

    @property
    def mr_signer(self) -> MrSigner:
        """SHA-256 of the 384 bytes of the modulus as stored."""
        return MrSigner(hashlib.sha256(self.modulus).digest())

    def signature_is_valid(self) -> bool:
        """Whether exponent, ranges, q1, q2 and the RSA signature are right, as EINIT checks them."""
        return all(check.ok for check in self.checks() if check.name != "sigstruct.vendor")

    def checks(self) -> tuple[Check, ...]:
        """What EINIT asks of the structure alone, by name.

        ``sigstruct.vendor``, ``sigstruct.exponent``, ``sigstruct.ranges``, ``sigstruct.quotients``,
        ``sigstruct.signature``.
        """
        n, s, q1, q2 = (int.from_bytes(part, "little") for part in (self.modulus, self.signature, self.q1, self.q2))
        in_range = 0 < s < n and q1 < n and q2 < n
        return (
            _check("vendor", self.vendor in (0, VENDOR_INTEL), "0x0 or 0x8086", f"{self.vendor:#x}"),
            _check("exponent", self.exponent == EXPONENT, "3", str(self.exponent)),
            _check("ranges", in_range, "signature, q1 and q2 less than the modulus"),
            _check("quotients", in_range and (q1, q2) == _quotients(s, n), "q1 and q2 of signature and modulus"),
            _check(
                "signature",
                in_range and pow(s, EXPONENT, n) == _encoded_message(self.signing_input),
                "RSA PKCS#1 v1.5 SHA-256 by the modulus",
            ),
        )


def _check(name: str, ok: bool, expected: str, seen: str = "") -> Check:
    return Check(
        name=f"sigstruct.{name}",
        ok=ok,
        expected=expected,
        seen=seen or ("as expected" if ok else "otherwise"),
        hint="" if ok else "the enclave was changed after signing or signed by a faulty tool: sign it again",
        source=_SOURCE,
    )


def _quotients(s: int, n: int) -> tuple[int, int]:
    """q1 = floor(S^2 / N), q2 = floor((S^3 - q1 S N) / N)."""
    q1, remainder = divmod(s * s, n)
    return q1, remainder * s // n


def _encoded_message(signing_input: bytes) -> int:
    """EMSA-PKCS1-v1_5 of the SHA-256 digest, as a number."""
    return int.from_bytes(_ENCODING_START + hashlib.sha256(signing_input).digest(), "big")


def sign(unsigned: SigStruct, key: "RSAPrivateKey") -> SigStruct:
    """Sign with RSA-3072, e = 3; the same input and key always give the same bytes.

    Args:
        unsigned: everything but modulus, exponent, signature, q1 and q2, which are replaced.
        key: RSA private key of 3072 bits with public exponent 3.

    Raises:
        MalformedError: ``sgx.sigstruct.key`` for any other key.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    public = key.public_key().public_numbers()
    if public.e != EXPONENT or key.key_size != KEY_SIZE * 8:
        raise MalformedError(
            "sgx.sigstruct.key",
            f"expected an RSA key of 3072 bits with exponent 3, seen {key.key_size} bits with exponent {public.e}",
            hint="make one with: openssl genrsa -3 -out key.pem 3072",
        )
    s = int.from_bytes(key.sign(unsigned.signing_input, padding.PKCS1v15(), hashes.SHA256()), "big")
    return with_signature(unsigned, public.n, s)


def with_signature(unsigned: SigStruct, modulus: int, signature: int) -> SigStruct:
    """The structure with a signature, its quotients q1 and q2, and exponent 3. Whether it is good is not looked at.

    Args:
        unsigned: everything else.
        modulus: N, at most 3072 bits.
        signature: S, less than N.
    """
    values = (modulus, signature, *_quotients(signature, modulus))
    n, s, q1, q2 = (value.to_bytes(KEY_SIZE, "little") for value in values)
    return replace(unsigned, modulus=n, exponent=EXPONENT, signature=s, q1=q1, q2=q2)
