import pytest

from bastide.errors import MalformedError
from bastide.policy import parse
from bastide.policy.parser import MOST_RULES
from bastide.policy.syntax import (
    Action,
    Assignment,
    ClaimCopy,
    Condition,
    Literal,
    NewClaim,
    Operator,
    Property,
    PropertyCondition,
    Reference,
    Rule,
    SectionKind,
    Span,
    Verb,
)
from support.vectors import vectors


def _refusal(text: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse(text)
    return caught.value


def test_reads_sections_in_order_with_their_rules() -> None:
    policy = parse("version= 1.1;configurationrules{};authorizationrules{=>permit();=>deny();};issuancerules{};")
    assert policy.version == (1, 1)
    assert [section.kind for section in policy.sections] == list(SectionKind)
    assert [rule.action.verb for rule in policy.rules(SectionKind.AUTHORIZATION)] == [Verb.PERMIT, Verb.DENY]


def test_reads_a_rule_with_identifier_reference_and_every_kind_of_value() -> None:
    policy = parse(
        'version=1.0;issuancerules{c:[type=="a",value>=7] && [value!=true, issuer==c.issuer]'
        ' => issue(type="b\\"", value=c.value);};'
    )
    assert policy.rules(SectionKind.ISSUANCE) == (
        Rule(
            conditions=(
                Condition(
                    identifier="c",
                    properties=(
                        PropertyCondition(
                            property=Property.TYPE, operator=Operator.EQUAL, expression=Literal(value="a")
                        ),
                        PropertyCondition(
                            property=Property.VALUE, operator=Operator.GREATER_OR_EQUAL, expression=Literal(value=7)
                        ),
                    ),
                ),
                Condition(
                    properties=(
                        PropertyCondition(
                            property=Property.VALUE, operator=Operator.NOT_EQUAL, expression=Literal(value=True)
                        ),
                        PropertyCondition(
                            property=Property.ISSUER,
                            operator=Operator.EQUAL,
                            expression=Reference(identifier="c", property=Property.ISSUER),
                        ),
                    ),
                ),
            ),
            action=Action(
                verb=Verb.ISSUE,
                claim=NewClaim(
                    assignments=(
                        Assignment(property=Property.TYPE, expression=Literal(value='b"')),
                        Assignment(
                            property=Property.VALUE, expression=Reference(identifier="c", property=Property.VALUE)
                        ),
                    )
                ),
            ),
        ),
    )


def test_reads_the_copy_of_a_claim() -> None:
    policy = parse('version=1.0;issuancerules{c:[type=="a"]=>issue(claim = c);};')
    assert policy.rules(SectionKind.ISSUANCE)[0].action.claim == ClaimCopy(identifier="c")


def test_keeps_the_place_of_every_rule() -> None:
    policy = parse("version=1.0;\nauthorizationrules{\n  => permit();\n};")
    rule = policy.rules(SectionKind.AUTHORIZATION)[0]
    assert (rule.at, rule.action.at) == (Span(3, 3), Span(3, 6))


def test_takes_section_names_in_any_case_with_a_note() -> None:
    policy = parse("version=1.0;authorizationrules{=>permit();};\nIssuancerules{};")
    assert [(note.code, note.at) for note in policy.notes] == [("policy.section.case", Span(2, 1))]


@pytest.mark.parametrize(
    ("slip", "code", "where", "hint"),
    [
        ('authorizationrules{[type="x"]=>permit();};', "policy.condition.operator", "line 1, column 37", "'=='"),
        ("authorizationrules{=>permit()};", "policy.rule.end", "line 1, column 42", "every rule ends with ';'"),
        ('issuancerules{=>issue("X", value=1);};', "policy.claim.unnamed", "line 1, column 35", 'type="X"'),
        ('issuancerules{=>issue(type=="X", value=1);};', "policy.action.operator", "line 1, column 39", "'='"),
        ("authorizationrules{=>permit();}", "policy.section.end", "line 1, column 44", "'};'"),
        ("authorizationrules{=>Permit();};", "policy.syntax", "line 1, column 34", "write 'permit'"),
        ('authorizationrules{[Type=="x"]=>permit();};', "policy.syntax", "line 1, column 33", "write 'type'"),
        ('issuancerules{=>issue(type="X", value=True);};', "policy.syntax", "line 1, column 51", "write 'true'"),
        ('issuancerules{=>issue(type="X", value=abc);};', "policy.syntax", "line 1, column 51", "quotes"),
        ('authorizationrules{c[type=="x"]=>permit();};', "policy.syntax", "line 1, column 33", "c:[...]"),
        ('authorizationrules{[type=="x"] [type=="y"]=>permit();};', "policy.syntax", "line 1, column 44", "&&"),
        ('authorizationrules{true:[type=="x"]=>permit();};', "policy.syntax", "line 1, column 32", "values"),
        ("authorizationrules{[]=>permit();};", "policy.syntax", "line 1, column 33", "claim property"),
        ("authorizationrules{=>permit(1);};", "policy.syntax", "line 1, column 41", "takes no claim"),
        ("authorizationrules{=>permit();", "policy.syntax", "line 1, column 43", "end of the policy"),
        ("rules{};", "policy.section.unknown", "line 1, column 13", "authorizationrules"),
    ],
)
def test_names_place_and_cure_of_a_slip(slip: str, code: str, where: str, hint: str) -> None:
    error = _refusal("version=1.0;" + slip)
    assert (error.code, error.where) == (code, where)
    assert hint in f"{error.message} {error.hint}"


@pytest.mark.parametrize("text", ["", "authorizationrules{=>permit();};", "eyJhbGciOiJub25lIn0.e30."])
def test_rejects_a_text_without_a_version(text: str) -> None:
    error = _refusal(text)
    assert error.code == "policy.syntax"
    assert "version=1.1;" in (error.hint or "")


@pytest.mark.parametrize("version", ["0.9", "1.3", "2.0", "01.0", "1.00"])
def test_rejects_a_version_that_it_does_not_speak(version: str) -> None:
    error = _refusal(f"version={version};authorizationrules{{=>permit();}};")
    assert error.code == "policy.version.unsupported"
    assert version in error.message


@pytest.mark.parametrize(
    ("rule", "construct"),
    [
        ('![type=="a"] => add(type="b", value=1);', "'!'"),
        ('=> add(type="b", value=NegateBool(true));', "NegateBool()"),
        ('c:[type=="a", value==JmesPath("{}", "a")] => add(claim=c);', "JmesPath()"),
    ],
)
def test_refuses_constructs_of_version_1_2_by_name(rule: str, construct: str) -> None:
    error = _refusal(f"version=1.1;issuancerules{{{rule}}};")
    assert error.code == "policy.version.construct"
    assert construct in error.message
    assert "1.2" in error.message


def test_takes_500_rules_and_refuses_one_more() -> None:
    parse("version=1.0;authorizationrules{" + "=>permit();" * MOST_RULES + "};")
    error = _refusal("version=1.0;authorizationrules{" + "=>permit();" * (MOST_RULES + 1) + "};")
    assert error.code == "policy.rule.count"


def test_reads_every_policy_of_the_vectors() -> None:
    texts = sorted(vectors("maa").glob("policies/*-v1.*.txt"))
    assert len(texts) == 6
    for file in texts:
        assert parse(file.read_text()).sections, file.name
