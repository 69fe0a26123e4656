import pytest

from bastide.errors import MalformedError
from bastide.policy import parse


def _policy(rule: str, section: str = "issuancerules", version: str = "1.1") -> str:
    return f"version={version};\n{section}{{\n{rule}\n}};"


def _refusal(text: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ("configurationrules", "=> permit();"),
        ("configurationrules", "=> deny();"),
        ("configurationrules", '=> add(type="a", value=1);'),
        ("configurationrules", '=> issue(type="a", value=1);'),
        ("authorizationrules", '=> issue(type="a", value=1);'),
        ("authorizationrules", '=> issueproperty(type="a", value=1);'),
        ("issuancerules", "=> permit();"),
        ("issuancerules", "=> deny();"),
    ],
)
def test_refuses_an_action_outside_its_sections(section: str, rule: str) -> None:
    error = _refusal(_policy(rule, section))
    assert (error.code, error.where) == ("policy.action.section", "line 3, column 4")


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ("configurationrules", '=> issueproperty(type="a", value=1);'),
        ("authorizationrules", "=> permit();"),
        ("authorizationrules", "=> deny();"),
        ("authorizationrules", '=> add(type="a", value=1);'),
        ("issuancerules", '=> add(type="a", value=1);'),
        ("issuancerules", '=> issue(type="a", value=1);'),
        ("issuancerules", '=> issueproperty(type="a", value=1);'),
    ],
)
def test_takes_an_action_in_its_sections(section: str, rule: str) -> None:
    parse(_policy(rule, section))


def test_refuses_configurationrules_in_version_1_0() -> None:
    error = _refusal(_policy("", "configurationrules", version="1.0"))
    assert (error.code, error.where, error.hint) == (
        "policy.version.construct",
        "line 2, column 1",
        "write version=1.1;",
    )
    assert "1.1" in error.message
    assert "1.0" in error.message


def test_refuses_a_section_that_stands_twice() -> None:
    error = _refusal("version=1.0;authorizationrules{};AuthorizationRules{};")
    assert error.code == "policy.section.repeated"


@pytest.mark.parametrize(
    "rule",
    [
        '=> issue(type="a", value=c.value);',
        "=> issue(claim=c);",
        'c:[type=="a", value==c.value] => issue(claim=c);',
        '[type=="a", value==c.value] && c:[type=="b"] => issue(claim=c);',
    ],
)
def test_refuses_an_identifier_that_no_earlier_condition_has(rule: str) -> None:
    error = _refusal(_policy(rule))
    assert error.code == "policy.identifier.unbound"
    assert "'c'" in error.message


def test_forgets_identifiers_at_the_end_of_a_rule() -> None:
    error = _refusal(_policy('c:[type=="a"] => issue(claim=c);\n=> issue(claim=c);'))
    assert (error.code, error.where) == ("policy.identifier.unbound", "line 4, column 10")


def test_refuses_an_identifier_that_stands_twice_in_a_rule() -> None:
    error = _refusal(_policy('c:[type=="a"] && c:[type=="b"] => issue(claim=c);'))
    assert error.code == "policy.identifier.repeated"


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("comparison", ['value {} "1"', "value {} true", 'type {} "a"', 'issuer {} "a"'])
def test_refuses_to_order_what_is_no_integer(operator: str, comparison: str) -> None:
    error = _refusal(_policy(f'[{comparison.format(operator)}] => issue(type="a", value=1);'))
    assert error.code == "policy.operator.type"


@pytest.mark.parametrize(
    "rule",
    [
        '[type==1] => issue(type="a", value=1);',
        '[issuer==true] => issue(type="a", value=1);',
        "=> issue(type=1, value=1);",
        '=> issue(type="a", value=1, valueType="String");',
    ],
)
def test_refuses_a_value_of_the_wrong_type(rule: str) -> None:
    assert _refusal(_policy(rule)).code == "policy.value.type"


@pytest.mark.parametrize(
    "claim",
    [
        'type="a", value=1, value=2',
        'type="a", value=1, issuer="Me"',
        'type="a", value=1, valueType="Float"',
    ],
)
def test_refuses_a_claim_with_a_wrong_property(claim: str) -> None:
    assert _refusal(_policy(f"=> issue({claim});")).code == "policy.claim.property"


@pytest.mark.parametrize("claim", ['type="a"', "value=1", 'issuer="CustomClaim"'])
def test_refuses_a_claim_without_type_or_value(claim: str) -> None:
    assert _refusal(_policy(f"=> issue({claim});")).code == "policy.claim.incomplete"


def test_takes_a_claim_with_all_four_properties() -> None:
    parse(_policy('=> issue(type="a", value=1, valueType="Integer", issuer="CustomClaim");'))


@pytest.mark.parametrize("rules", ["", "=> deny();"])
def test_notes_that_a_policy_can_never_permit(rules: str) -> None:
    notes = parse(_policy(rules, "authorizationrules")).notes
    assert [note.code for note in notes] == ["policy.permit.never"]
