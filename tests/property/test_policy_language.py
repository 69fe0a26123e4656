from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from bastide.errors import MalformedError, PolicyError
from bastide.policy import Claim, evaluate, parse, render
from bastide.policy.parser import parse_syntax
from bastide.policy.syntax import (
    Action,
    Assignment,
    Call,
    ClaimCopy,
    Condition,
    Function,
    Literal,
    NewClaim,
    Operator,
    Policy,
    Property,
    PropertyCondition,
    Reference,
    Rule,
    Section,
    SectionKind,
    Verb,
)

_WORDS = (
    *("version", "=", "1", ".", "0", ";", "1.0", "1.1", "{", "}", "(", ")", "[", "]", "=>", "&&", ",", ":", "c", "c."),
    *(
        *SectionKind,
        *Verb,
        *Property,
        *Operator,
        *Function,
        "true",
        "false",
        '"x"',
        '"',
        "//",
        "!",
        "\n",
        " ",
        "claim",
        "\u201c",
    ),
)
_IDENTIFIERS = st.sampled_from(["c", "c1", "F1", "_", "type", "claim", "permit", "version", "C_2"])
_TEXT = st.text(alphabet='ax"\\ /{};=\t\u00e9\u20ac\U0001f510', max_size=6)
_VALUES = st.one_of(_TEXT, st.integers(0, (1 << 63) - 1), st.booleans())
_EXPRESSIONS = st.recursive(
    st.one_of(
        st.builds(Literal, value=_VALUES),
        st.builds(Literal, value=st.sampled_from(['{"a": [1, null]}', "[1, true]", "a[0]", "[*] | length(@)", "null"])),
        st.builds(Reference, identifier=_IDENTIFIERS, property=st.sampled_from(Property)),
    ),
    lambda inner: st.builds(Call, function=st.sampled_from(Function), arguments=st.lists(inner, max_size=2).map(tuple)),
    max_leaves=4,
)
_COMPARISONS = st.builds(
    PropertyCondition,
    property=st.sampled_from(Property),
    operator=st.sampled_from(Operator),
    expression=_EXPRESSIONS,
)
_CONDITIONS = st.builds(
    Condition,
    identifier=st.none() | _IDENTIFIERS,
    properties=st.lists(_COMPARISONS, min_size=1, max_size=2).map(tuple),
    negated=st.booleans(),
)
_ASSIGNMENTS = st.builds(Assignment, property=st.sampled_from(Property), expression=_EXPRESSIONS)
_NEW_CLAIMS = st.builds(NewClaim, assignments=st.lists(_ASSIGNMENTS, min_size=1, max_size=2).map(tuple))
_ACTIONS = st.one_of(
    st.builds(Action, verb=st.sampled_from([Verb.PERMIT, Verb.DENY])),
    st.builds(
        Action,
        verb=st.sampled_from([Verb.ADD, Verb.ISSUE, Verb.ISSUE_PROPERTY]),
        claim=st.builds(ClaimCopy, identifier=_IDENTIFIERS) | _NEW_CLAIMS,
    ),
)
_RULES = st.builds(Rule, conditions=st.lists(_CONDITIONS, max_size=2).map(tuple), action=_ACTIONS)
_SECTIONS = st.builds(Section, kind=st.sampled_from(SectionKind), rules=st.lists(_RULES, max_size=2).map(tuple))
_POLICIES = st.builds(Policy, version=st.just((1, 2)), sections=st.lists(_SECTIONS, max_size=2).map(tuple))


@given(_POLICIES)
def test_rendered_policy_parses_to_itself(policy: Policy) -> None:
    assert parse_syntax(render(policy)) == policy


@given(st.text(max_size=200))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedError):
        parse(text)


@given(st.lists(st.sampled_from(_WORDS), max_size=40))
def test_any_row_of_words_parses_or_is_malformed_with_a_place(words: list[str]) -> None:
    assert _place_of_refusal("version=1.2;" + " ".join(words)).startswith("line ")


def _place_of_refusal(text: str) -> str:
    try:
        parse(text)
    except MalformedError as error:
        return error.where or ""
    return "line of none: accepted"


@given(_POLICIES, st.lists(st.builds(Claim, type=_TEXT, value=_VALUES), max_size=5))
def test_any_checked_policy_gives_a_decision(policy: Policy, claims: list[Claim]) -> None:
    with suppress(MalformedError, PolicyError):
        decision = evaluate(parse(render(policy)), claims)
        assert decision.authorized or not decision.issued


@given(st.permutations(["=> permit();", "=> deny();", "=> permit();", '[type=="x"] => permit();']))
def test_deny_wins_wherever_it_stands(rules: list[str]) -> None:
    policy = parse("version=1.0;authorizationrules{" + "".join(rules) + "};")
    assert not evaluate(policy, [Claim(type="x", value=1)]).authorized
