"""The server's certificate: made by ourselves, and loaded again when its files change."""

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bastide.errors import ConfigError
from bastide.web.tls import ServerTls, self_made
from support.tokens import NOW


def test_makes_a_certificate_once_and_keeps_its_key_to_itself(tmp_path: Path) -> None:
    certificate, key = self_made(tmp_path, ("attest.example.org", "127.0.0.1"), NOW)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = certificate.read_bytes()
    self_made(tmp_path, ("attest.example.org", "127.0.0.1"), NOW)
    assert certificate.read_bytes() == before
    names = x509.load_pem_x509_certificate(before).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["attest.example.org"]


@pytest.mark.parametrize("change", ["names", "age", "garbage"])
def test_makes_another_certificate_where_the_old_one_does_not_do(tmp_path: Path, change: str) -> None:
    certificate, _ = self_made(tmp_path, ("localhost",), NOW)
    before = certificate.read_bytes()
    if change == "garbage":
        certificate.write_bytes(b"none")
    names = ("elsewhere",) if change == "names" else ("localhost",)
    self_made(tmp_path, names, NOW + timedelta(days=800 if change == "age" else 0))
    assert certificate.read_bytes() not in (before, b"none")


def test_loads_files_again_when_they_have_changed_and_keeps_the_old_ones_until_they_fit(tmp_path: Path) -> None:
    certificate, key = self_made(tmp_path, ("localhost",), NOW)
    tls = ServerTls(certificate, key)
    assert isinstance(tls.context, ssl.SSLContext)
    assert tls.refresh() is False
    good = key.read_bytes()
    key.write_bytes(b"half written")
    with pytest.raises(ConfigError, match=r"web\.tls\.files"):
        tls.refresh()
    key.write_bytes(good + b"\n")
    assert tls.refresh() is True
    assert tls.refresh() is False
