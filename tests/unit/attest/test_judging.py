"""What is judged on the event loop and what in a thread, and that the answer is the same."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bastide.attest import judging, service
from bastide.attest.activepolicy import ActivePolicy
from bastide.attest.collateral.catalogue import Bundle, Catalogue
from bastide.attest.judging import SMALL_DATA, Case, Judge
from bastide.attest.profile import Profile
from bastide.attest.records import Judged
from bastide.attest.service import Attested, AttestRequest, Refused
from bastide.attest.tenants import TenantConfig
from bastide.attest.verifiers import Verifiers
from bastide.dcap import PreparedCollateral, Verifier, collateral_hashes
from bastide.errors import ConfigError, MalformedError
from bastide.policy import DEFAULT_SGX_POLICY, Claim, Decision, PolicyDocument
from bastide.policy.program import Program
from bastide.sgx.quote import QuoteParts
from bastide.token.claims import CollateralHashes
from support import sgx_values
from support.evidence import ISSUED, world
from support.quotes import td_world
from support.tokens import signer

NOW = ISSUED + timedelta(days=1)
URL = "https://attest.example.org/simulation"
LONG = (
    "version=1.0;authorizationrules{=>permit();};issuancerules{" + '[value!="x"]=>issue(type="a", value=1);' * 60 + "};"
)
BASELINE = (
    'version=1.1;configurationrules{=>issueproperty(type="x-ms-sgx-tcbidentifier", value="azuredefault");};'
    "authorizationrules{=>permit();};"
)


@cache
def _quote() -> bytes:
    return world().quote(sgx_values.report_body()).build()


def _judge(profile: Profile = Profile.STRICT) -> Judge:
    catalogue = Catalogue([Bundle.of("live", PreparedCollateral.of(world().collateral, world().root))])
    return Judge(TenantConfig(name="default", issuer=URL, profile=profile), catalogue, Verifiers(world().root))  # type: ignore[arg-type]


def _case(text: str = DEFAULT_SGX_POLICY, **changes: object) -> Case:
    active = ActivePolicy(document=PolicyDocument.parse(text), signer=None)
    request = AttestRequest(quote=_quote())
    return replace(Case(request=request, active=active, is_draft=False, now=NOW, signer=signer(URL)), **changes)  # type: ignore[arg-type]


def test_a_new_platform_is_judged_in_full_and_a_known_one_at_once_with_the_same_claims() -> None:
    judge, case = _judge(), _case()
    assert judge.at_once(case) is None
    full, quick = judge.in_full(case), judge.at_once(case)
    assert quick is not None
    assert isinstance(full.answer, Attested)
    assert isinstance(quick.answer, Attested)
    assert {**full.answer.claims, "jti": ""} == {**quick.answer.claims, "jti": ""}
    assert quick.collateral is full.collateral


@pytest.mark.parametrize(
    "changes",
    [
        {"is_draft": True},
        {"request": AttestRequest(quote=_quote(), runtime_data=bytes(SMALL_DATA + 1))},
        {"request": AttestRequest(quote=td_world().quote.build())},
    ],
)
def test_what_may_take_long_is_not_judged_at_once(changes: dict[str, object]) -> None:
    judge = _judge()
    judge.in_full(_case())
    assert judge.at_once(_case()) is not None
    assert judge.at_once(_case(**changes)) is None


def test_a_policy_of_many_steps_is_tried_once_and_never_refused_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, case = _judge(), _case(LONG)
    judge.in_full(_case())
    assert judge.at_once(case) is None
    monkeypatch.setattr(judging, "conclude", None)  # it would be called if it were tried again
    assert judge.at_once(case) is None
    monkeypatch.undo()
    assert isinstance(judge.in_full(case).answer, Attested)


def test_a_baseline_is_worked_out_in_full_only() -> None:
    for profile, at_once in ((Profile.STRICT, True), (Profile.MAA, False)):
        judge = _judge(profile)
        judge.in_full(_case())
        assert (judge.at_once(_case(BASELINE)) is not None) is at_once


def test_a_refusal_is_the_same_at_once_and_in_full() -> None:
    judge = _judge()
    judge.in_full(_case())
    case = _case(request=AttestRequest(quote=_quote(), runtime_data=b"other"))
    quick, full = judge.at_once(case), judge.in_full(case)
    assert quick is not None
    assert isinstance(quick.answer, Refused)
    assert isinstance(full.answer, Refused)
    assert quick.answer.refused_by == full.answer.refused_by


def test_evidence_that_is_none_is_malformed() -> None:
    with pytest.raises(MalformedError, match=r"quote\."):
        _judge().at_once(_case(request=AttestRequest(quote=b"none")))


@cache
def _attestation_key() -> ec.EllipticCurvePrivateKey:
    """That of the one quoting enclave."""
    return ec.generate_private_key(ec.SECP256R1())


def _of_data(data: bytes, **changes: object) -> AttestRequest:
    """A request with data that the enclave has bound to its report; ``changes`` of what is sent."""
    report = replace(sgx_values.report_body(), report_data=hashlib.sha256(data).digest() + bytes(32))
    quote = world().quote(report, _attestation_key()).build()
    return replace(AttestRequest(quote=quote, runtime_data=data), **changes)  # type: ignore[arg-type]


def _count_decisions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    asked: list[object] = []
    evaluate = service.evaluate

    def counted(program: Program, claims: Sequence[Claim], *, budget: int) -> Decision:
        asked.append(program)
        return evaluate(program, claims, budget=budget)

    monkeypatch.setattr(service, "evaluate", counted)
    return asked


def test_a_policy_is_asked_once_about_an_enclave_whatever_data_it_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, case = _judge(), _case()
    judge.in_full(case)
    asked = _count_decisions(monkeypatch)
    for data in (b"one", b"two", b"three"):
        mine = replace(case, request=_of_data(data))
        quick, full = judge.at_once(mine), judge.in_full(mine)
        assert quick is not None
        assert isinstance(quick.answer, Attested)
        assert isinstance(full.answer, Attested)
        assert {**quick.answer.claims, "jti": ""} == {**full.answer.claims, "jti": ""}
        assert quick.answer.claims["x-ms-sgx-report-data"] == hashlib.sha256(data).hexdigest() + "00" * 32
        assert quick.grounds == full.grounds
        assert quick.answer.decision == full.answer.decision
    assert len(asked) == 1 + 3  # once for all of the quick ones


def test_a_known_enclave_is_refused_for_data_and_signatures_as_a_new_one_is() -> None:
    judge = _judge()
    judge.in_full(_case())
    good = _of_data(b"mine")
    assert isinstance(_quick(judge, _case(request=good)).answer, Attested)
    other = _quick(judge, _case(request=replace(good, runtime_data=b"not mine"))).answer
    assert isinstance(other, Refused)
    assert other.refused_by.name == "runtime-data.hash"
    unsigned = bytearray(good.quote)
    unsigned[48 + 320] ^= 1  # report data, which the quote's signature covers
    forged = _quick(judge, _case(request=AttestRequest(quote=bytes(unsigned)))).answer
    assert isinstance(forged, Refused)
    assert forged.refused_by.name == "quote.signature"


_BY_DATA = """version=1.0;authorizationrules{
    [type=="x-ms-sgx-report-data", value=="%s"] => permit();
};"""
_BY_JSON = """version=1.2;authorizationrules{
    c:[type=="x-bastide-evidence"] => add(type="k", value=JmesPath(c.value, "\\"x-ms-runtime\\".k"));
    [type=="k", value=="\\"a\\""] => permit();
};"""


@pytest.mark.parametrize("text", [_BY_DATA % (hashlib.sha256(b"a").hexdigest() + "00" * 32), _BY_JSON])
def test_a_policy_that_asks_for_what_is_bound_is_asked_each_time(text: str) -> None:
    judge, case = _judge(), _case(text)
    judge.in_full(case)
    binary = "report-data" in text
    for data, permitted in ((b"a", True), (b"b", False), (b"a", True)):
        sent = data if binary else b'{"k":"%s"}' % data
        request = _of_data(sent, runtime_is_json=not binary)
        assert isinstance(_quick(judge, replace(case, request=request)).answer, Attested) is permitted


def test_another_policy_is_asked_about_an_enclave_that_the_one_before_admitted() -> None:
    judge, case = _judge(), _case()
    judge.in_full(case)
    assert isinstance(_quick(judge, case).answer, Attested)
    closed = _case("version=1.0;authorizationrules{=>deny();};").active
    assert isinstance(_quick(judge, replace(case, active=closed)).answer, Refused)
    assert isinstance(_quick(judge, case).answer, Attested)


def test_the_enclaves_that_are_remembered_are_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_MOST_ENCLAVES", 2)
    judge, case = _judge(), _case()
    judge.in_full(case)
    asked = _count_decisions(monkeypatch)
    for number in (1, 2, 3, 3, 2, 1):
        quote = world().quote(replace(sgx_values.report_body(), isv_svn=number), _attestation_key()).build()
        assert isinstance(_quick(judge, replace(case, request=AttestRequest(quote=quote))).answer, Attested)
    assert len(asked) == 4  # the first had to give way


def test_what_was_said_under_another_verdict_or_issuer_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, case = _judge(), _case()
    judge.in_full(case)
    attested = _quick(judge, case).answer
    assert isinstance(attested, Attested)
    standing, parts = attested.standing, QuoteParts.cut(case.request.quote)
    assert standing.lasting
    arguments = {
        "hashes": CollateralHashes(quotehash="", **collateral_hashes(world().collateral)),
        "policy": case.active.document,
        "now": NOW,
        "jti": "",
        "standing": standing,
    }
    asked = _count_decisions(monkeypatch)
    same = (case.request, standing.report, standing.verdict)
    service.conclude(*same, signer=case.signer, **arguments)  # type: ignore[arg-type]
    assert not asked
    again = Verifier(world().collateral, root=world().root).verify(parts, NOW)
    service.conclude(case.request, standing.report, again, signer=case.signer, **arguments)  # type: ignore[arg-type]
    service.conclude(*same, signer=signer(f"{URL}/2"), **arguments)  # type: ignore[arg-type]
    assert len(asked) == 2
    with pytest.raises(ConfigError, match="simulation"):
        service.conclude(*same, signer=signer("https://real.example.org"), **arguments)  # type: ignore[arg-type]


def _quick(judge: Judge, case: Case) -> Judged:
    judged = judge.at_once(case)
    assert judged is not None
    return judged
