"""Verifiers that requests share: each for its own collateral and policy, forgotten with the collateral."""

from dataclasses import replace
from datetime import timedelta

from bastide.attest.verifiers import Verifiers
from bastide.dcap import STRICT, PreparedCollateral, collateral_hashes
from bastide.sgx.quote import Quote, QuoteParts
from support import sgx_values
from support.evidence import ISSUED, world

NOW = ISSUED + timedelta(days=1)


def _prepared() -> PreparedCollateral:
    return PreparedCollateral.of(world().collateral, world().root)


def _quote() -> Quote:
    return world().quote(sgx_values.report_body())


def _parts(quote: Quote) -> QuoteParts:
    return QuoteParts.cut(quote.build())


def test_only_a_platform_that_was_judged_before_is_known() -> None:
    shared, quote = Verifiers(world().root).of(_prepared(), STRICT), _quote()
    assert shared.verify_known(_parts(quote), NOW) is None
    first = shared.verify(quote, NOW)
    assert first.acceptable
    assert shared.verify_known(_parts(quote), NOW) == first


def test_a_known_platform_does_not_excuse_a_bad_signature() -> None:
    shared, quote = Verifiers(world().root).of(_prepared(), STRICT), _quote()
    shared.verify(quote, NOW)
    forged = replace(quote, body=replace(sgx_values.report_body(), isv_svn=77))
    verdict = shared.verify_known(_parts(forged), NOW)
    assert verdict is not None
    assert not verdict.acceptable


def test_what_has_run_out_is_refused_although_it_was_accepted_before() -> None:
    shared, quote = Verifiers(world().root).of(_prepared(), STRICT), _quote()
    shared.verify(quote, NOW)
    late = shared.verify_known(_parts(quote), NOW + timedelta(days=400))
    assert late is not None
    assert not late.acceptable


def test_who_finds_the_verifier_in_use_is_told_so_instead_of_waiting() -> None:
    shared, quote = Verifiers(world().root).of(_prepared(), STRICT), _quote()
    shared.verify(quote, NOW)
    with shared._lock:
        assert shared.verify_known(_parts(quote), NOW) is None


def test_each_collateral_and_each_policy_has_a_verifier_of_its_own() -> None:
    verifiers, one, other = Verifiers(world().root), _prepared(), _prepared()
    lenient = replace(STRICT, name="other", allow_debug=True)
    assert one == other
    assert verifiers.of(one, STRICT) is verifiers.of(one, STRICT)
    assert len({id(verifiers.of(each, policy)) for each in (one, other) for policy in (STRICT, lenient)}) == 4
    assert verifiers.of(one, STRICT).hashes == collateral_hashes(one.collateral)


def test_collateral_that_is_no_longer_in_use_is_forgotten() -> None:
    verifiers, old, new = Verifiers(world().root), _prepared(), _prepared()
    before, kept = verifiers.of(old, STRICT), verifiers.of(new, STRICT)
    verifiers.keep_only([new])
    assert verifiers.of(old, STRICT) is not before
    assert verifiers.of(new, STRICT) is kept
