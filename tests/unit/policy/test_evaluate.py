import itertools

import pytest

from bastide.errors import PolicyError
from bastide.policy import ATTESTATION_POLICY, ATTESTATION_SERVICE, Claim, Decision, evaluate, parse
from bastide.policy.syntax import SectionKind


def _claim(kind: str, value: str | int | bool, issuer: str = ATTESTATION_SERVICE) -> Claim:
    return Claim(type=kind, value=value, issuer=issuer)


def _authorize(rules: str, *claims: Claim) -> Decision:
    return evaluate(parse(f"version=1.1;\nauthorizationrules{{\n{rules}\n}};"), claims)


def _issue(rules: str, *claims: Claim) -> Decision:
    text = f"version=1.1;\nauthorizationrules{{=>permit();}};\nissuancerules{{\n{rules}\n}};"
    return evaluate(parse(text), claims)


def _holds(condition: str, *claims: Claim) -> bool:
    return _authorize(f"{condition} => permit();", *claims).authorized


# permit and deny


def test_permits_when_a_permit_fires() -> None:
    decision = _authorize("=> permit();")
    assert decision.authorized
    assert decision.deciding is decision.trace[0]


@pytest.mark.parametrize(
    "rules", [*itertools.permutations(["=> deny();", "=> permit();", '[type=="no"] => permit();'])]
)
def test_deny_beats_permit_in_any_order(rules: tuple[str, ...]) -> None:
    decision = _authorize("\n".join(rules))
    assert not decision.authorized
    assert decision.deciding is not None
    assert decision.deciding.line == rules.index("=> deny();") + 3
    assert "deny()" in decision.reason


@pytest.mark.parametrize("rules", ["", '[type=="x"] => permit();', '[type=="x"] => deny();'])
def test_refuses_when_no_rule_fires(rules: str) -> None:
    decision = _authorize(rules)
    assert not decision.authorized
    assert decision.deciding is None
    assert "no authorization rule" in decision.reason


def test_refuses_without_authorizationrules() -> None:
    assert not evaluate(parse("version=1.0;issuancerules{};"), ()).authorized


def test_issues_nothing_when_refused() -> None:
    text = 'version=1.0;authorizationrules{=>deny();};issuancerules{=>issue(type="a", value=1);};'
    decision = evaluate(parse(text), ())
    assert decision.issued == ()
    assert {entry.section for entry in decision.trace} == {SectionKind.AUTHORIZATION}


def test_evaluates_sections_in_their_order_wherever_they_stand() -> None:
    text = (
        'version=1.1;issuancerules{[type=="b"]=>issue(type="c", value=1);};'
        'authorizationrules{[type=="a"]=>permit();=>add(type="b", value=1);};'
        'configurationrules{=>issueproperty(type="a", value=1);};'
    )
    decision = evaluate(parse(text), ())
    assert decision.authorized
    assert [claim.type for claim in decision.issued] == ["c"]
    assert [claim.type for claim in decision.properties] == ["a"]


# conditions


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ("value == 5", True),
        ("value == 6", False),
        ("value != 6", True),
        ("value != 5", False),
        ("value < 6", True),
        ("value < 5", False),
        ("value <= 5", True),
        ("value <= 4", False),
        ("value > 4", True),
        ("value > 5", False),
        ("value >= 5", True),
        ("value >= 6", False),
    ],
)
def test_compares_integers(comparison: str, expected: bool) -> None:
    assert _holds(f"[{comparison}]", _claim("svn", 5)) is expected


@pytest.mark.parametrize("value", ["1", 1, True])
@pytest.mark.parametrize("literal", ['"1"', "1", "true"])
@pytest.mark.parametrize("operator", ["==", "!="])
def test_values_of_different_types_never_compare(value: str | int | bool, literal: str, operator: str) -> None:
    same_type = {"1": '"1"', 1: "1"}[value] == literal if not isinstance(value, bool) else literal == "true"
    assert _holds(f"[value {operator} {literal}]", _claim("x", value)) is (same_type and operator == "==")


@pytest.mark.parametrize("value", ["7", True])
def test_a_claim_that_is_no_integer_has_no_order(value: str | bool) -> None:
    assert not _holds("[value >= 0]", _claim("x", value))
    assert not _holds('c:[type=="x"] && [type=="x", value >= c.value]', _claim("x", value))


def test_every_property_must_hold_on_the_same_claim() -> None:
    claims = (_claim("a", 1), _claim("b", 2))
    assert _holds('[type=="a", value==1]', *claims)
    assert not _holds('[type=="a", value==2]', *claims)


def test_every_condition_must_hold() -> None:
    assert _holds('[type=="a"] && [type=="b"]', _claim("a", 1), _claim("b", 1))
    assert not _holds('[type=="a"] && [type=="b"]', _claim("a", 1))


def test_tells_issuers_apart() -> None:
    condition = '[type=="a", issuer=="AttestationService"]'
    assert _holds(condition, _claim("a", 1))
    assert not _holds(condition, Claim(type="a", value=1))


@pytest.mark.parametrize(("value", "name"), [("x", "String"), (1, "Integer"), (True, "Boolean")])
def test_knows_the_type_of_a_value(value: str | int | bool, name: str) -> None:
    assert _holds(f'[valueType=="{name}"]', _claim("a", value))


def test_a_later_condition_may_use_an_earlier_identifier() -> None:
    rule = 'c:[type=="a"] && [type=="b", value==c.value]'
    assert _holds(rule, _claim("a", 1), _claim("a", 2), _claim("b", 2))
    assert not _holds(rule, _claim("a", 1), _claim("b", 2))


def test_two_references_in_one_condition_mean_the_same_claim() -> None:
    rule = 'c:[issuer=="AttestationService"] && [issuer=="CustomClaim", type==c.type, value==c.value]'
    mixed = Claim(type="a", value=2)
    assert not _holds(rule, _claim("a", 1), _claim("b", 2), mixed)
    assert _holds(rule, _claim("a", 2), _claim("b", 1), mixed)


# actions


def test_issues_with_the_policy_as_issuer() -> None:
    assert _issue('=> issue(type="level", value=100);').issued == (
        Claim(type="level", value=100, issuer=ATTESTATION_POLICY),
    )


def test_issues_one_claim_for_each_match() -> None:
    decision = _issue('c:[type=="a"] => issue(type="b", value=c.value);', _claim("a", 1), _claim("a", "x"))
    assert [claim.value for claim in decision.issued] == [1, "x"]


def test_issues_once_when_the_new_claim_names_no_match() -> None:
    decision = _issue('c:[type=="a"] => issue(type="b", value=true);', _claim("a", 1), _claim("a", 2))
    assert [claim.value for claim in decision.issued] == [True]


def test_takes_all_parts_of_a_new_claim_from_the_same_match() -> None:
    decision = _issue("c:[value>=1] => issue(type=c.type, value=c.value);", _claim("a", 1), _claim("b", 2))
    assert [(claim.type, claim.value) for claim in decision.issued] == [("a", 1), ("b", 2)]


def test_copies_claims_as_they_are() -> None:
    claim = _claim("a", 1)
    assert _issue('c:[type=="a"] => issue(claim=c);', claim).issued == (claim,)


@pytest.mark.parametrize("verb", ["add", "issue", "issueproperty"])
def test_what_a_rule_makes_is_seen_by_later_rules(verb: str) -> None:
    decision = _issue(f'=> {verb}(type="a", value=1);\nc:[type=="a"] => issue(type="b", value=c.value);')
    assert [claim.value for claim in decision.issued if claim.type == "b"] == [1]


def test_a_rule_does_not_see_what_comes_after_it() -> None:
    assert _issue('[type=="a"] => issue(type="b", value=1);\n=> add(type="a", value=1);').issued == ()


def test_keeps_outgoing_and_property_claims_apart() -> None:
    rules = '=> add(type="a", value=1);=> issue(type="b", value=1);=> issueproperty(type="c", value=1);'
    decision = _issue(rules)
    assert [claim.type for claim in decision.issued] == ["b"]
    assert [claim.type for claim in decision.properties] == ["c"]


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("type=c.value, value=1", "its type would be the Integer 5"),
        ('type="b", value=1, issuer=c.type', 'its issuer would be "a"'),
        ('type="b", value=c.value, valueType="String"', "does not fit the value, of type Integer"),
    ],
)
def test_a_claim_that_cannot_be_made_is_left_out_and_explained(claim: str, why: str) -> None:
    decision = _issue(f'c:[type=="a"] => issue({claim});', _claim("a", 5))
    assert decision.authorized
    assert decision.issued == ()
    assert why in decision.trace[-1].why


# trace


def test_trace_tells_which_claims_matched_and_what_was_made() -> None:
    claim = _claim("a", 5)
    entry = _issue('c:[type=="a"] => issue(type="b", value=c.value);', claim, _claim("z", 1)).trace[-1]
    assert (entry.section, entry.number, entry.line, entry.fired) == (SectionKind.ISSUANCE, 1, 4, True)
    assert [condition.matched for condition in entry.conditions] == [(claim,)]
    assert [made.value for made in entry.produced] == [5]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ('[type=="b"]', 'condition 1: no claim has type == "b"'),
        ('[value==true, type=="a"]', "condition 1: no claim has value == true; seen 5, 6"),
        ('[type=="a"] && [type=="a", value>9]', "condition 2: no claim has value > 9; seen 5, 6"),
        ('c:[type=="a"] && [issuer=="x", value==c.value]', 'no claim has issuer == "x"; seen "AttestationService"'),
    ],
)
def test_trace_tells_why_a_rule_did_not_fire(condition: str, why: str) -> None:
    decision = _authorize(f"{condition} => permit();", _claim("a", 5), _claim("a", 6))
    assert not decision.trace[0].fired
    assert why in decision.trace[0].why


# work


def test_refuses_a_policy_that_needs_more_steps_than_allowed() -> None:
    policy = parse('version=1.0;authorizationrules{[type=="a"] => permit();};')
    claims = [_claim("b", number) for number in range(10)]
    assert not evaluate(policy, claims, budget=20).authorized
    with pytest.raises(PolicyError) as caught:
        evaluate(policy, claims, budget=9)
    assert caught.value.code == "policy.evaluation.budget"


def test_refuses_a_policy_that_doubles_its_claims_for_ever() -> None:
    rules = "c:[value==1] => add(claim=c);\n" * 100
    with pytest.raises(PolicyError) as caught:
        _issue(rules, _claim("a", 1))
    assert caught.value.code == "policy.evaluation.budget"
