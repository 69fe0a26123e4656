"""What is judged on the event loop and what in a thread, and that the answer is the same."""

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from bastide.attest import judging
from bastide.attest.activepolicy import ActivePolicy
from bastide.attest.collateral.catalogue import Bundle, Catalogue
from bastide.attest.judging import SMALL_DATA, Case, Judge
from bastide.attest.profile import Profile
from bastide.attest.service import Attested, AttestRequest, Refused
from bastide.attest.tenants import TenantConfig
from bastide.attest.verifiers import Verifiers
from bastide.dcap import PreparedCollateral
from bastide.errors import MalformedError
from bastide.policy import DEFAULT_SGX_POLICY, PolicyDocument
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
