from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from bastide.dcap import INTEL, STRICT, AppraisalPolicy, PreparedCollateral, TcbStatus, Verifier, evidence, verify
from bastide.errors import MalformedError
from bastide.pki.ecdsa import verify_raw
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import Quote
from bastide.sim.intel import platform
from support.quotes import AT, ISSUED, World, good_world, other_pki, sign_raw, td_world, world_of
from support.refusals import tcb_info
from support.sgx_values import attributes

SECOND = timedelta(seconds=1)
END = ISSUED + timedelta(days=30)
"""When the collateral of good worlds runs out."""


def verifier_of(world: World, **options: object) -> Verifier:
    return Verifier(world.collateral, root=world.root, **options)  # type: ignore[arg-type] - named by each test


def again(quote: Quote, world: World) -> Quote:
    """The quote of another process of the quoting enclave: certified anew."""
    return replace(quote, qe_report_signature=sign_raw(world.pck_key, quote.qe_report.build()))


def debug(world: World) -> World:
    return replace(world, body=replace(world.body, attributes=attributes(AttributeFlags.DEBUG)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The crypto library's answers about signatures of quotes."""
    answers: list[bool] = []

    def ask(*question: object) -> bool:
        answers.append(verify_raw(*question))  # type: ignore[arg-type] - passed on as they came
        return answers[-1]

    monkeypatch.setattr(evidence, "verify_raw", ask)
    return answers


@pytest.mark.parametrize("world", [good_world(), td_world(), td_world(current=bytes([5, 1, 7, *(0,) * 13]))])
def test_gives_the_verdict_of_verify_and_gives_it_again(world: World) -> None:
    quote, raw = world.quote, world.collateral
    verifier = Verifier(raw, root=world.root)
    first = verifier.verify(quote.build(), AT)
    assert first == verify(quote, raw, AT, root=world.root)
    assert first.acceptable
    assert verifier.verify(quote, AT + SECOND) is first
    assert first == verify(quote, raw, AT + SECOND, root=world.root)


def test_checks_both_signatures_of_a_known_quoting_enclave(asked: list[bool]) -> None:
    world = good_world()
    verifier, quote = verifier_of(world), world.quote
    verifier.verify(quote, AT)
    del asked[:]
    assert verifier.verify(again(quote, world), AT).acceptable
    assert asked == [True, True]


def test_checks_one_signature_where_the_other_was_seen_byte_for_byte(asked: list[bool]) -> None:
    world = good_world()
    verifier, quote = verifier_of(world), world.quote
    verifier.verify(quote, AT)
    del asked[:]
    assert verifier.verify(quote, AT).acceptable
    assert asked == [True]


def test_checks_every_signature_every_time_if_told(asked: list[bool]) -> None:
    world = good_world()
    verifier, quote = verifier_of(world, max_qe_signatures=0), world.quote
    for _ in range(3):
        assert verifier.verify(quote, AT).acceptable
    assert asked == [True] * 6


@pytest.mark.parametrize("part", ["signature", "qe_report_signature"])
@pytest.mark.parametrize("most", [0, 16])
def test_refuses_a_known_quote_with_a_bad_signature(part: str, most: int) -> None:
    world = good_world()
    verifier, good = verifier_of(world, max_qe_signatures=most), world.quote
    assert verifier.verify(good, AT).acceptable
    forged = replace(good, **{part: bytes(63) + b"\x01"})
    verdict = verifier.verify(forged, AT)
    assert not verdict.acceptable
    assert verdict == verify(forged, world.collateral, AT, root=world.root)
    assert verifier.verify(good, AT).acceptable


def test_a_signature_of_another_quote_is_none_of_this_one() -> None:
    world = good_world()
    verifier, good = verifier_of(world), world.quote
    assert verifier.verify(good, AT).acceptable
    other = replace(world, body=replace(world.body, report_data=bytes(64))).quote
    assert verifier.verify(other, AT).acceptable
    assert not verifier.verify(replace(other, signature=good.signature), AT).acceptable


def test_debug_is_refused_after_production_of_the_same_quoting_enclave() -> None:
    world = good_world()
    verifier = verifier_of(world)
    assert verifier.verify(world.quote, AT).acceptable
    assert [check.name for check in verifier.verify(debug(world).quote, AT).refusals] == ["appraisal.debug"]


def test_another_platform_is_judged_by_its_own_certificates() -> None:
    world = good_world()
    verifier = verifier_of(world)
    assert verifier.verify(world.quote, AT).acceptable
    lower = replace(world_of(world.pki, platform(components=(0,) * 16)), attestation_key=world.attestation_key)
    verdict = verifier.verify(lower.quote, AT)
    assert verdict == verify(lower.quote, verifier.prepared, AT, root=world.root)
    assert not verdict.acceptable


@pytest.mark.parametrize("instant", [END, END + SECOND, ISSUED - SECOND])
def test_what_is_remembered_counts_only_while_everything_is_in_force(instant: object) -> None:
    world = good_world()
    raw = world.collateral
    verifier, quote = Verifier(raw, root=world.root), world.quote
    known = verifier.verify(quote, END - SECOND)
    assert known.valid_until == END
    assert (known.valid_from, known.acceptable) == (ISSUED, True)
    verdict = verifier.verify(quote, instant)  # type: ignore[arg-type] - one of the above
    assert not verdict.acceptable
    assert verdict == verify(quote, raw, instant, root=world.root)  # type: ignore[arg-type] - the same


def test_what_has_run_out_is_forgotten() -> None:
    world = good_world()
    verifier = verifier_of(world, policy=INTEL)
    verifier.verify(world.quote, AT)
    assert len(verifier._platforms) == 1
    assert verifier.verify(world.quote, END).acceptable  # so says that policy
    assert verifier._platforms == {}


def test_no_refusal_is_remembered() -> None:
    world = good_world()
    verifier = verifier_of(world)
    verifier.verify(debug(world).quote, AT)
    (known,) = verifier._platforms.values()
    assert known.verdicts == {}


def test_platforms_that_are_not_genuine_take_no_room() -> None:
    world = good_world()
    verifier = verifier_of(world)
    stranger = world_of(other_pki())
    assert not verifier.verify(stranger.quote, AT).acceptable
    no_chain = replace(world.quote, certification=replace(world.certification, type=4))
    assert not verifier.verify(no_chain, AT).acceptable
    assert verifier._platforms == {}


def test_memory_is_bounded_and_the_oldest_gives_way() -> None:
    world = good_world()
    verifier = verifier_of(world, max_platforms=2, max_qe_signatures=2)
    quotes = [replace(world_of(world.pki), tcb_info=world.tcb_info).quote for _ in range(3)]
    for quote in quotes:
        assert verifier.verify(quote, AT).acceptable
    assert [data for _, data in verifier._platforms] == [quote.certification.data for quote in quotes[1:]]
    assert verifier.verify(quotes[0], AT).acceptable


def test_memory_for_one_platform_is_bounded() -> None:
    world = good_world()
    verifier = verifier_of(world, max_qe_signatures=2)
    for number in range(20):
        quote = replace(world, qe_auth_data=bytes([number])).quote
        assert verifier.verify(quote, AT).acceptable
    (known,) = verifier._platforms.values()
    assert len(known.verdicts) == 16
    for _ in range(4):
        verifier.verify(again(quote, world), AT)
    assert [len(judged.qe_signatures) for judged in known.verdicts.values()][-1] == 2


def test_nothing_is_remembered_if_told() -> None:
    world = good_world()
    verifier = verifier_of(world, max_platforms=0)
    assert verifier.verify(world.quote, AT).acceptable
    assert verifier._platforms == {}


def test_time_of_grace_ends_for_known_quotes_too() -> None:
    world = good_world()
    late = tcb_info(world, levels=(replace(world.tcb_info.levels[0], status="OutOfDate"),))
    grace = AT - late.verdict(INTEL).tcb_date  # type: ignore[operator] - a level was reached
    policy = AppraisalPolicy(name="grace", accepted_statuses=frozenset(TcbStatus), platform_grace=grace)
    verifier = verifier_of(late, policy=policy)
    assert verifier.verify(late.quote, AT).acceptable
    verdict = verifier.verify(late.quote, AT + SECOND)
    assert [check.name for check in verdict.refusals] == ["appraisal.platform-grace"]


def test_a_time_of_grace_is_told_in_the_days_of_the_policy() -> None:
    world = good_world()
    policy = AppraisalPolicy(name="grace", platform_grace=timedelta(days=30))
    seen = {check.name: check.expected for check in verifier_of(world, policy=policy).verify(world.quote, AT).checks}
    assert seen["appraisal.platform-grace"] == "no level out of date whose tcbDate lies more than 30 days back"


def test_collateral_prepared_under_another_root_is_prepared_anew() -> None:
    world = good_world()
    prepared = PreparedCollateral.of(world.collateral, other_pki().trust_anchor)
    assert Verifier(prepared, root=world.root).verify(world.quote, AT).acceptable
    assert not Verifier(prepared).verify(world.quote, AT).acceptable


def test_known_quoting_enclave_does_not_vouch_for_another_key() -> None:
    world = good_world()
    verifier, good = verifier_of(world), world.quote
    assert verifier.verify(good, AT).acceptable
    stranger = world_of(world.pki).attestation_key
    theirs = replace(world, attestation_key=stranger).quote
    mixed = replace(theirs, qe_report=good.qe_report, qe_report_signature=good.qe_report_signature)
    assert verifier.verify(mixed, AT).refusals[0].name == "quote.qe-report.data"
    bound = sha256(mixed.attestation_key + mixed.qe_auth_data).digest() + bytes(32)
    forged = replace(mixed, qe_report=replace(good.qe_report, report_data=bound))
    assert verifier.verify(forged, AT).refusals[0].name == "quote.qe-report.signature"


def test_what_is_no_quote_raises() -> None:
    with pytest.raises(MalformedError):
        verifier_of(good_world()).verify(bytes(2000), AT)


def test_policy_is_the_strict_one_unless_named() -> None:
    assert verifier_of(good_world()).policy is STRICT
