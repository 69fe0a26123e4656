"""A Verifier's verdicts against those of ``verify``, over all real quotes, changed quotes and broken collateral."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.dcap import INTEL, STRICT, AppraisalPolicy, Collateral, PreparedCollateral, Verdict, Verifier, verify
from bastide.errors import MalformedError
from bastide.pki.chain import INTEL_ROOT
from support.dcap_vectors import conformance
from support.vectors import vectors

CASES: Sequence[Any] = conformance.load_cases(vectors("dcap"))
SECOND = timedelta(seconds=1)


@cache
def prepared(collateral: Collateral) -> PreparedCollateral:
    return PreparedCollateral.of(collateral, INTEL_ROOT)


@cache
def uncached(number: int, at: datetime, policy: AppraisalPolicy) -> Verdict | str:
    case = CASES[number]
    try:
        return verify(case.quote, prepared(case.collateral), at, policy=policy)
    except MalformedError as error:
        return error.code


def cached(verifiers: dict[Collateral, Verifier], number: int, at: datetime, policy: AppraisalPolicy) -> Verdict | str:
    case = CASES[number]
    known = verifiers.get(case.collateral)
    verifier = known or verifiers.setdefault(case.collateral, Verifier(prepared(case.collateral), policy=policy))
    try:
        return verifier.verify(case.quote, at)
    except MalformedError as error:
        return error.code


@cache
def instants(number: int) -> tuple[datetime, ...]:
    """The instant of a case, and where things begin and run out."""
    case = CASES[number]
    verdict = uncached(number, case.at, INTEL)
    if isinstance(verdict, str) or verdict.valid_from is None or verdict.valid_until is None:
        return (case.at,)
    start, end = verdict.valid_from, verdict.valid_until
    return (case.at, start - SECOND, start, end - SECOND, end, end + SECOND)


def test_every_case_twice_in_order() -> None:
    for policy in (STRICT, INTEL):
        verifiers: dict[Collateral, Verifier] = {}
        for number in (*range(len(CASES)), *reversed(range(len(CASES)))):
            at = CASES[number].at
            assert cached(verifiers, number, at, policy) == uncached(number, at, policy), CASES[number].id


def test_every_case_at_every_boundary() -> None:
    verifiers: dict[Collateral, Verifier] = {}
    for number in range(len(CASES)):
        for at in (*instants(number), *reversed(instants(number))):
            assert cached(verifiers, number, at, INTEL) == uncached(number, at, INTEL), (CASES[number].id, at)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), policy=st.sampled_from((STRICT, INTEL)))
def test_cases_in_any_order_at_any_instant(data: st.DataObject, policy: AppraisalPolicy) -> None:
    verifiers: dict[Collateral, Verifier] = {}
    numbers = data.draw(st.lists(st.integers(0, len(CASES) - 1), min_size=1, max_size=12))
    for number in numbers:
        at = data.draw(st.sampled_from(instants(number)))
        assert cached(verifiers, number, at, policy) == uncached(number, at, policy), CASES[number].id
