"""Our Intel layer against the recorded answers of Intel's library, on real quotes and collateral."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bastide.dcap import Collateral, QvlStatus, Verdict, verify
from bastide.dcap.intel import verify_tcb_info
from bastide.dcap.prepared import PreparedCollateral
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor, load_pem_chain, public_point
from bastide.sgx.quote import Quote
from support.dcap_vectors import conformance, load_collateral
from support.vectors import vectors

FOLDER = vectors("dcap")
CASES = {case.id: case for case in conformance.load_cases(FOLDER)}
SGX_CASE = CASES["sgx3-phala@SGX-00A067110000-e17-2025-06-19"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_agrees_with_intel_or_differs_as_listed(case: Any) -> None:
    assert [each for each in conformance.differences(case) if each.divergence is None] == []


def test_there_are_all_recorded_answers() -> None:
    kinds = [case.kind for case in CASES.values()]
    assert [kinds.count(kind) for kind in ("case", "mutation", "broken collateral")] == [48, 91, 24]


def test_every_class_of_difference_but_one_can_only_refuse() -> None:
    lenient = [each.name for each in conformance.DIVERGENCES if not each.ours]
    assert lenient == ["older-root"]
    assert all(status.is_error for each in conformance.DIVERGENCES for status in each.ours)


def test_tool_is_green_on_the_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main([str(FOLDER)]) == 0
    assert "case: 48 asked, 44 agree, 4 differ as listed, 0 otherwise" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "code"), [("TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED", 0), ("TCB_OUT_OF_DATE", 1)])
def test_tool_fails_on_a_difference_that_is_not_listed(status: str, code: int, tmp_path: Path) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    (case,) = (case for case in manifest["cases"] if case["id"] == SGX_CASE.id)
    case["intel_qvl"]["quote"] = status
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": [case]}))
    for name in ("quotes", "collateral"):
        (tmp_path / name).symlink_to(FOLDER / name)
    assert conformance.main([str(tmp_path)]) == code


def test_tool_fails_where_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert conformance.main([str(tmp_path)]) == 1


def test_tool_fails_on_a_class_without_a_reason(tmp_path: Path) -> None:
    (tmp_path / "parity.md").write_text("# nothing\n")
    assert conformance.main([str(FOLDER), "--parity", str(tmp_path / "parity.md")]) == 1


def test_changed_quotes_are_acceptable_only_where_the_base_is() -> None:
    accepted = {case.id for case in CASES.values() if case.kind == "case" and _accepts(case)}
    assert accepted
    for case in CASES.values():
        if case.kind == "mutation" and _accepts(case):
            base = case.id.partition("+")[0]
            assert any(name.startswith(base) for name in accepted), case.id


def _accepts(case: Any) -> bool:
    try:
        return verify(case.quote, case.collateral, case.at).acceptable
    except MalformedError:
        return False


@pytest.mark.parametrize("name", [folder.name for folder in sorted((FOLDER / "collateral").iterdir())])
def test_genuine_collateral_is_believed_in_its_time(name: str) -> None:
    prepared = PreparedCollateral.of(load_collateral(FOLDER / "collateral" / name), INTEL_ROOT)
    assert (prepared.tcb_result.status, prepared.qe_result.status) == (QvlStatus.OK, QvlStatus.OK)
    start = max(period.start for period in prepared.periods)
    assert verify_tcb_info(prepared, start).status is QvlStatus.OK


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("sgx3-oe-reportbad", QvlStatus.SGX_INTERMEDIATE_CA_INVALID_ISSUER),
        ("sgx3-oe-ecbad", QvlStatus.UNSUPPORTED_CERT_FORMAT),
        ("sgx3-fortanix-type3", QvlStatus.UNSUPPORTED_CERT_FORMAT),
    ],
)
def test_refuses_real_quotes_whose_chain_is_bad(name: str, status: QvlStatus) -> None:
    verdict = _under_first_collateral(name)
    assert verdict.pck_status is status
    assert not verdict.acceptable


def test_takes_a_real_chain_whose_root_stands_in_the_middle() -> None:
    verdict = _under_first_collateral("sgx3-fortanix-chain")
    assert verdict.pck_status is QvlStatus.OK
    assert verdict.quote_status is QvlStatus.TCB_INFO_MISMATCH


def _under_first_collateral(name: str) -> Verdict:
    case = SGX_CASE
    return verify((FOLDER / "quotes" / f"{name}.bin").read_bytes(), case.collateral, case.at)


def _intel_sample() -> tuple[bytes, Collateral, TrustAnchor]:
    folder = FOLDER / "intel_sample_test_pki"
    root = load_pem_chain((folder / "trustedRootCaCert.pem").read_bytes())[0]
    chain = (folder / "pckCert.pem").read_bytes() + (folder / "pckSignChain.pem").read_bytes()
    quote = Quote.parse((folder / "quote.dat").read_bytes())
    head = quote.build()[: -len(quote.trailing) - len(quote.certification.build()) or None]
    tail = (5).to_bytes(2, "little") + len(chain).to_bytes(4, "little") + chain
    raw = head[:432] + (len(head) - 436 + len(tail)).to_bytes(4, "little") + head[436:] + tail
    collateral = Collateral(
        tcb_info=(folder / "tcbInfo.json").read_bytes(),
        qe_identity=(folder / "qeIdentity.json").read_bytes(),
        pck_crl=(folder / "intermediateCaCrl.pem").read_bytes(),
        root_ca_crl=(folder / "rootCaCrl.der").read_bytes(),
        tcb_signing_chain=(folder / "tcbSignChain.pem").read_bytes(),
    )
    return raw, collateral, TrustAnchor(public_point=public_point(root), name="sample", simulation=True)


def test_believes_intels_own_sample_under_its_own_root_only() -> None:
    quote, collateral, root = _intel_sample()
    at = datetime(2026, 8, 1, tzinfo=UTC)
    verdict = verify(quote, collateral, at, root=root)
    assert [check for check in verdict.checks if not check.ok] == []
    assert (verdict.acceptable, verdict.simulation) == (True, True)
    foreign = verify(quote, collateral, at)
    assert foreign.pck_status is QvlStatus.SGX_PCK_CERT_CHAIN_UNTRUSTED
    assert foreign.tcb_info_status is QvlStatus.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED
    assert foreign.qe_identity_status is QvlStatus.SGX_TCB_SIGNING_CERT_CHAIN_UNTRUSTED
    assert not foreign.acceptable
