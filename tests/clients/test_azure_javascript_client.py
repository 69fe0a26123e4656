"""The unmodified npm package @azure/attestation 1.0.0 against the served application.

It is installed at test time, all versions exact; without npm, or where nothing can be installed, the tests skip.
"""

import base64
import hashlib
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.policy import DEFAULT_SGX_POLICY
from bastide.sgx.attributes import AttributeFlags
from support import sgx_values
from support.attest_server import admin_token, live_world, options, served, tenant_file
from support.signers import PolicySigner, policy_signer

SOURCES = Path(__file__).parent / "azure_js"
POLICY = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
DATA = b'{"a":1}'
_INSTALL_SECONDS = 180
_RUN_SECONDS = 90


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = _installed(tmp_path_factory.mktemp("js"))
    world = tmp_path_factory.mktemp("served")
    (world / "first.pem").write_text(policy_signer("first").certificate_pem)
    tenants = {
        "default": tenant_file(world, "default"),
        "isolated": tenant_file(world, "isolated", 'mode = "isolated"\npolicy_signers = "first.pem"\n'),
        "shared": tenant_file(world, "shared", 'mode = "shared"\n'),
    }
    with served(options(world, tenants=tenants)) as server:
        done = subprocess.run(
            ["node", "flows.cjs"],
            cwd=folder,
            input=json.dumps(_given(server.url)),
            env={"NODE_EXTRA_CA_CERTS": server.ca, "PATH": _path()},
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "url": server.url}


def _installed(folder: Path) -> Path:
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed")
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm install took too long")
    if done.returncode:
        pytest.skip(f"npm cannot install the client: {done.stderr.strip()[-200:]}")
    return folder


def _path() -> str:
    return str(Path(shutil.which("node") or "").parent)


def _quote(**changes: Any) -> bytes:
    bound = hashlib.sha256(DATA).digest() + bytes(32)
    return live_world().quote(replace(sgx_values.report_body(), report_data=bound, **changes)).build()


def _given(url: str) -> dict[str, Any]:
    quote = _quote()
    kss = sgx_values.attributes(AttributeFlags.KSS)
    bound = _quote(attributes=kss, config_id=hashlib.sha256(DATA).digest() + bytes(32))
    return {
        "url": url,
        "bearer": admin_token(),
        "quote": _b64(quote),
        "kssQuote": _b64(bound),
        "report": _b64(struct.pack("<IIQ", 1, 2, len(quote)) + quote),
        "data": _b64(DATA),
        "policy": POLICY,
        "signers": {
            "first": _pair(policy_signer("first")),
            "second": _pair(policy_signer("second")),
            "curve": _pair(policy_signer("curve", curve=True)),
        },
    }


def _pair(signer: PolicySigner) -> dict[str, str]:
    return {"key": signer.key_pem, "certificate": signer.certificate_pem}


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_attests_in_every_way(outcomes: dict[str, Any]) -> None:
    assert outcomes["sgxBinary"] == {
        "mrEnclave": sgx_values.report_body().mr_enclave.hex(),
        "held": _b64(DATA),
        "issuer": outcomes["url"],
    }
    assert outcomes["sgxJson"] == {"runtime": {"a": 1}}
    assert len(outcomes["openEnclave"]["quoteHash"]) == 64
    assert outcomes["openEnclaveJson"] == {"runtime": {"a": 1}}
    assert outcomes["initTime"] == {"initTime": {"a": 1}}
    assert outcomes["draft"] == {"algorithm": "none"}


def test_attests_for_tenants_of_every_mode_under_issuers_of_their_own(outcomes: dict[str, Any]) -> None:
    isolated, shared = f"{outcomes['url']}/isolated", f"{outcomes['url']}/shared"
    assert outcomes["issuers"] == [isolated, isolated, shared, shared]


def test_finds_issuer_and_keys(outcomes: dict[str, Any]) -> None:
    assert outcomes["metadata"] == {"issuer": outcomes["url"]}
    assert outcomes["signers"] == {"count": 1}


def test_is_told_that_tpm_evidence_is_not_attested_here(outcomes: dict[str, Any]) -> None:
    assert outcomes["tpm"]["status"] == 400
    assert "does not offer 'Tpm'" in outcomes["tpm"]["message"]


def test_sets_gets_and_resets_policies(outcomes: dict[str, Any]) -> None:
    assert outcomes["setUnsigned"] == outcomes["setSignedByCurve"] == {"resolution": "Updated"}
    assert outcomes["setSigned"] == {"resolution": "Updated", "signer": 1}
    assert outcomes["getPolicy"] == {"policy": POLICY}
    assert outcomes["resetPolicy"] == {"resolution": "Removed"}
    assert outcomes["getDefaultPolicy"] == {"policy": DEFAULT_SGX_POLICY}


def test_an_isolated_tenant_wants_signatures(outcomes: dict[str, Any]) -> None:
    assert outcomes["isolatedUnsigned"]["status"] == 400
    assert outcomes["isolatedUnsigned"]["error"] == "InvalidOperation"
    assert outcomes["isolatedSigned"] == {"resolution": "Updated"}
    assert outcomes["isolatedReset"] == {"resolution": "Removed"}
    assert outcomes["addCertificate"] == {"resolution": "IsPresent"}
    assert outcomes["listCertificates"] == {"count": 2}
    assert outcomes["removeCertificate"] == {"resolution": "IsAbsent"}


def test_a_shared_tenant_is_read_only(outcomes: dict[str, Any]) -> None:
    assert outcomes["sharedSet"]["status"] == 403
    assert outcomes["sharedGet"] == {"policy": DEFAULT_SGX_POLICY}
