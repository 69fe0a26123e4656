"""Our Intel layer against the recorded answers of Intel's library, on real quotes and collateral."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from bastide.dcap import Collateral, QvlStatus, Verdict, verify
from bastide.dcap.intel import PCK_CHAIN_IN_QUOTE, PckChain, verify_tcb_info
from bastide.dcap.prepared import PreparedCollateral
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor, load_pem_chain, public_point
from bastide.sgx.quote import Quote
from support.dcap_vectors import Case, broken_collateral, load_collateral, sgx_cases, sgx_mutations, statuses
from support.vectors import vectors

FOLDER = vectors("dcap")
CASES = sgx_cases()
MUTATIONS = sgx_mutations()
BROKEN = broken_collateral()
ROOT_OF_2049 = 2049


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One way in which we answer otherwise than Intel, on purpose.

    ``applies`` looks at the input and never at the name of a case.
    """

    call: str
    ours: str
    reason: str
    applies: Callable[[Case], bool]


def _has_older_root(case: Case) -> bool:
    chain = PckChain.of(Quote.parse(case.quote)).chain
    root = None if isinstance(chain, MalformedError) else chain.root
    return root is not None and INTEL_ROOT.pins(root) and root.not_valid_after_utc.year != ROOT_OF_2049


def _lacks_chain(case: Case) -> bool:
    return Quote.parse(case.quote).certification.type != PCK_CHAIN_IN_QUOTE


def _is_reformatted(part: str) -> Callable[[Case], bool]:
    def applies(case: Case) -> bool:
        raw = getattr(case.collateral, part)
        return json.dumps(json.loads(raw), separators=(",", ":")).encode() != raw.strip()

    return applies


DIVERGENCES = (
    Divergence(
        call="pck",
        ours="OK",
        reason="the root key is pinned, not one certificate of it: quotes made before 2022 bring the older one",
        applies=_has_older_root,
    ),
    Divergence(
        call="pck",
        ours="UNSUPPORTED_CERT_FORMAT",
        reason="stricter, as QvE: only a quote that brings its PCK chain is verified",
        applies=_lacks_chain,
    ),
    Divergence(
        call="quote",
        ours="UNSUPPORTED_QE_CERTIFICATION_DATA_TYPE",
        reason="stricter, as QvE: only a quote that brings its PCK chain is verified",
        applies=_lacks_chain,
    ),
    Divergence(
        call="tcb",
        ours="TCB_INFO_INVALID_SIGNATURE",
        reason="stricter: the signature covers the bytes as served, and nothing is serialised again",
        applies=_is_reformatted("tcb_info"),
    ),
    Divergence(
        call="qe",
        ours="SGX_ENCLAVE_IDENTITY_INVALID_SIGNATURE",
        reason="stricter: the signature covers the bytes as served, and nothing is serialised again",
        applies=_is_reformatted("qe_identity"),
    ),
)


def assert_agrees(case: Case) -> None:
    for call, ours in statuses(case).items():
        if call in case.intel and ours != case.intel[call]:
            known = [d for d in DIVERGENCES if d.call == call and d.ours == ours and d.applies(case)]
            assert known, f"{call}: ours {ours}, Intel's {case.intel[call]}"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_agrees_with_intel_on_real_quotes(case: Case) -> None:
    assert_agrees(case)


@pytest.mark.parametrize("case", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_agrees_with_intel_on_changed_quotes_and_collateral(case: Case) -> None:
    assert_agrees(case)


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_agrees_with_intel_on_broken_collateral(case: Case) -> None:
    assert_agrees(case)


def test_every_divergence_is_met_by_a_case() -> None:
    met = {
        divergence
        for case in (*CASES.values(), *MUTATIONS.values())
        for call, ours in statuses(case).items()
        for divergence in DIVERGENCES
        if divergence.call == call and divergence.ours == ours != case.intel.get(call) and divergence.applies(case)
    }
    assert met == set(DIVERGENCES)


def test_every_divergence_but_the_root_rule_is_stricter() -> None:
    assert [d.reason for d in DIVERGENCES if not QvlStatus(d.ours).is_error] == [DIVERGENCES[0].reason]


def test_changed_quotes_are_acceptable_only_where_the_base_is() -> None:
    accepted = {case.id for case in CASES.values() if verify(case.quote, case.collateral, case.at).acceptable}
    assert accepted
    for case in MUTATIONS.values():
        base = case.id.partition("+")[0]
        try:
            verdict = verify(case.quote, case.collateral, case.at)
        except MalformedError:
            continue
        assert not verdict.acceptable or any(name.startswith(base) for name in accepted), case.id


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
    case = next(iter(CASES.values()))
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
