"""The unmodified azure-security-attestation 1.0.0 against the served application."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import pytest
from azure.core.credentials import AccessToken
from azure.security.attestation import AttestationClient

from support import sgx_values
from support.attest_server import Served, admin_token, live_world, options, served


class Credential:
    """What a program gives the client to ask for bearer tokens."""

    def __init__(self, subject: str = "the-admin") -> None:
        self._subject = subject

    def get_token(self, *scopes: str, **kwargs: object) -> AccessToken:
        return AccessToken(admin_token(self._subject), 4102444800)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(options(tmp_path_factory.mktemp("azure"))) as running:
        yield running


def quote(data: bytes) -> bytes:
    bound = hashlib.sha256(data).digest() + bytes(32)
    return live_world().quote(replace(sgx_values.report_body(), report_data=bound)).build()


def test_runs_the_client_as_it_is_published() -> None:
    assert version("azure-security-attestation") == "1.0.0"


def test_attests_sgx_with_binary_runtime_data(server: Served) -> None:
    with AttestationClient(server.url, Credential(), connection_verify=server.ca) as client:
        result, token = client.attest_sgx_enclave(quote(b"held"), runtime_data=b"held")
    assert result.enclave_held_data == b"held"
    assert result.issuer == server.url
    assert token._body["x-bastide-simulation"] is True
