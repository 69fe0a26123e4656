import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import process_time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from bastide.dcap.containers import (
    LARGEST_CONTAINER,
    MAA_EXTENSION,
    MOST_LAYERS,
    OPEN_ENCLAVE_EXTENSION,
    Container,
    unwrap,
)
from bastide.errors import MalformedError
from support.vectors import vectors

_QUOTE = bytes.fromhex("03000200") + bytes(range(256)) * 5
_REPORT = bytes.fromhex("0100000002000000") + len(_QUOTE).to_bytes(8, "little") + _QUOTE


def _certificate(oid: x509.ObjectIdentifier, value: bytes) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        .sign(key, SHA256())
    )


_OCTETS = b"\x04\x82" + len(_QUOTE).to_bytes(2, "big") + _QUOTE
_MAA_CERTIFICATE = _certificate(MAA_EXTENSION, _REPORT)
_OE_CERTIFICATE = _certificate(OPEN_ENCLAVE_EXTENSION, _OCTETS)


@pytest.mark.parametrize(
    ("raw", "layers"),
    [
        (_QUOTE, (Container.RAW,)),
        (b"# a comment\n# another\n" + _QUOTE, (Container.RAW,)),
        (_QUOTE.hex().encode(), (Container.HEX,)),
        (_QUOTE.hex().upper().encode() + b"\n", (Container.HEX,)),
        (b"0x" + _QUOTE.hex(" ", 32).encode(), (Container.HEX,)),
        (b"# hex\n" + _QUOTE.hex("\n", 32).encode(), (Container.HEX,)),
        (base64.b64encode(_QUOTE), (Container.BASE64,)),
        (base64.b64encode(_QUOTE).rstrip(b"="), (Container.BASE64,)),
        (base64.urlsafe_b64encode(_QUOTE), (Container.BASE64,)),
        (base64.urlsafe_b64encode(_QUOTE).rstrip(b"="), (Container.BASE64,)),
        (base64.encodebytes(_QUOTE), (Container.BASE64,)),
        (b"-----BEGIN SGX QUOTE-----\n" + base64.encodebytes(_QUOTE) + b"-----END SGX QUOTE-----\n", (Container.PEM,)),
        (_REPORT, (Container.OPEN_ENCLAVE,)),
        (_REPORT.hex().encode(), (Container.HEX, Container.OPEN_ENCLAVE)),
        (json.dumps({"Type": 2, "QuoteHex": _QUOTE.hex()}).encode(), (Container.JSON, Container.HEX)),
        (
            json.dumps({"report": base64.urlsafe_b64encode(_REPORT).decode()}).encode(),
            (Container.JSON, Container.BASE64, Container.OPEN_ENCLAVE),
        ),
        (_MAA_CERTIFICATE.public_bytes(Encoding.DER), (Container.CERTIFICATE, Container.OPEN_ENCLAVE)),
        (_OE_CERTIFICATE.public_bytes(Encoding.PEM), (Container.CERTIFICATE,)),
        (
            base64.b64encode(_OE_CERTIFICATE.public_bytes(Encoding.DER)),
            (Container.BASE64, Container.CERTIFICATE),
        ),
    ],
)
def test_finds_the_quote_in(raw: bytes, layers: tuple[Container, ...]) -> None:
    found = unwrap(raw)
    assert found.quote == _QUOTE
    assert (found.layers, found.kind) == (layers, layers[0])
    assert found.envelope == (_REPORT if Container.OPEN_ENCLAVE in layers else None)


def test_finds_the_quote_behind_a_certificate_without_one() -> None:
    plain = _certificate(x509.ObjectIdentifier("1.2.3"), b"\x05\x00").public_bytes(Encoding.PEM)
    assert unwrap(plain + _OE_CERTIFICATE.public_bytes(Encoding.PEM)).quote == _QUOTE
    with pytest.raises(MalformedError) as caught:
        unwrap(plain)
    assert caught.value.code == "quote.container.certificate"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "quote.container.size"),
        (b"0" * (LARGEST_CONTAINER + 1), "quote.container.size"),
        (b"#", "quote.container.size"),
        (b"\xff\xfe\x00\x01", "quote.container.unknown"),
        (b"03000", "quote.container.unknown"),
        (b"hello world!", "quote.container.unknown"),
        (b"abcde", "quote.container.unknown"),
        (b"-----BEGIN SGX QUOTE-----\nAAAA\n-----END QUOTE-----", "quote.container.unknown"),
        (_REPORT[:12], "quote.container.open-enclave"),
        (_REPORT[:-1], "quote.container.open-enclave"),
        (_REPORT + b"\0", "quote.container.open-enclave"),
        (b"\1\0\0\0\1\0\0\0" + _REPORT[8:], "quote.container.open-enclave"),
        (b"{", "quote.container.json"),
        (b"{" * 100_000, "quote.container.json"),
        (b'{"a":' * 50_000, "quote.container.json"),
        (b'{"QuoteHex": 3}', "quote.container.json"),
        (b"\x30\x82\xff\xff" + bytes(8), "quote.container.certificate"),
    ],
)
def test_refuses_by_name(raw: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        unwrap(raw)
    assert caught.value.code == code


@given(st.binary(max_size=200) | st.text(alphabet='03-BEGIND{}"=+/# \n', max_size=200).map(str.encode))
def test_any_bytes_are_a_quote_or_malformed(raw: bytes) -> None:
    with suppress(MalformedError):
        assert unwrap(raw).layers


def test_any_number_of_remarks_is_passed_over_at_once() -> None:
    lines = b"# a\n#\n" * ((LARGEST_CONTAINER - 2 * len(_QUOTE)) // 6)
    assert unwrap(lines + _QUOTE.hex().encode()).quote == _QUOTE
    start = process_time()
    with pytest.raises(MalformedError):
        unwrap(b"#\n" * (LARGEST_CONTAINER // 2))
    assert process_time() - start < 2  # CPU seconds; one after the other they took seven


def test_as_many_wrappings_as_are_promised_are_taken_off() -> None:
    raw = _QUOTE
    for _ in range(MOST_LAYERS):
        raw = base64.b64encode(raw)
    assert unwrap(raw).layers == (Container.BASE64,) * MOST_LAYERS
    with pytest.raises(MalformedError) as caught:
        unwrap(base64.b64encode(raw))
    assert caught.value.code == "quote.container.layers"


def _expected(name: str) -> bytes:
    return (vectors("dcap") / "quotes" / f"{name}.bin").read_bytes()


@pytest.mark.parametrize(
    ("file", "quote"),
    [
        ("dcap/containers/oe_evidence.bin", "sgx3-oe-evidence"),
        ("dcap/containers/maa_signing_cert_uks.pem", "sgx3-maa-signer-uks"),
        ("dcap/containers/maa_enclave_info_release_intelsdk.json", "sgx3-maa-intelsdk-release"),
        ("dcap/containers/maa_enclave_info_release_oesdk.json", "sgx3-maa-oesdk-release"),
        ("maa/quotes/azure-samples-intel-debug.json", "sgx3-maa-intelsdk-debug"),
        ("maa/quotes/azure-samples-oe-debug.json", "sgx3-maa-oesdk-debug"),
        ("dcap/quotes/sgx3-phala.bin", "sgx3-phala"),
    ],
)
def test_finds_the_quotes_of_the_vectors(file: str, quote: str) -> None:
    folder, _, rest = file.partition("/")
    assert unwrap(Path(vectors(folder) / rest).read_bytes()).quote == _expected(quote)


def test_finds_the_quote_of_the_service_in_every_recorded_signing_certificate() -> None:
    exchange = json.loads((vectors("maa") / "sessions" / "certs-shared.json").read_text())[0]
    chains = [key["x5c"][0] for key in exchange["response"]["body"]["keys"]]
    found = [unwrap(chain.encode()) for chain in chains if _names_maa(chain)]
    assert len(found) == 2
    assert all(one.envelope is not None for one in found)


def _names_maa(chain: str) -> bool:
    subject = x509.load_der_x509_certificate(base64.b64decode(chain)).subject
    return "attest.azure.net" in subject.rfc4514_string()
