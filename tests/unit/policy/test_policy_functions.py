import pytest

from bastide.errors import MalformedError
from bastide.policy import ATTESTATION_SERVICE, Claim, Decision, evaluate, parse


def _claim(kind: str, value: str | int | bool, *, read_only: bool = False) -> Claim:
    return Claim(type=kind, value=value, issuer=ATTESTATION_SERVICE, read_only=read_only)


def _issue(rules: str, *claims: Claim) -> Decision:
    return evaluate(parse(f"version=1.2;\nauthorizationrules{{=>permit();}};\nissuancerules{{\n{rules}\n}};"), claims)


def _values(expression: str, *claims: Claim, condition: str = "") -> list[str | int | bool]:
    return [claim.value for claim in _issue(f'{condition} => issue(type="r", value={expression});', *claims).issued]


def _why(expression: str) -> str:
    decision = _issue(f'=> issue(type="r", value={expression});')
    assert decision.authorized
    assert decision.issued == ()
    assert decision.trace[-1].failed
    return decision.trace[-1].why


@pytest.mark.parametrize(
    ("json", "values"),
    [
        ("100", [100]),
        ("-7", [-7]),
        ("2.0", [2]),
        ("true", [True]),
        (r"\"abc\"", ["abc"]),
        ("null", []),
        (r"[0, \"abc\", true, 0]", [0, "abc", True, 0]),
        ("[null]", []),
        ("[]", []),
    ],
)
def test_json_becomes_claim_values(json: str, values: list[str | int | bool]) -> None:
    found = _values(f'JsonToClaimValue("{json}")')
    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]


@pytest.mark.parametrize(
    ("json", "why"),
    [
        ("1.5", "fraction"),
        ("{}", "an object"),
        ("[[1]]", "objects or arrays"),
        ("abc", "is not JSON"),
        ("", "is not JSON"),
        ("9223372036854775808", "63 bits"),
        ("1e400", "fraction"),
        ("NaN", "not JSON"),
        (r"{\"a\":1,\"a\":2}", "same key"),
    ],
)
def test_json_that_is_no_claim_value_makes_no_claim_and_says_why(json: str, why: str) -> None:
    assert why in _why(f'JsonToClaimValue("{json}")')


def test_an_empty_value_makes_no_claim_and_is_no_failure() -> None:
    trace = _issue('=> issue(type="r", value=JsonToClaimValue("null"));').trace[-1]
    assert (trace.fired, trace.failed) == (True, False)
    assert "empty" in trace.why


def test_jmespath_gives_json_text() -> None:
    assert _values(r'JmesPath("{\"foo\": \"bar\"}", "foo")') == ['"bar"']
    assert _values(r'JmesPath("{\"foo\": \"bar\"}", "baz")') == ["null"]


def test_jmespath_takes_document_and_query_from_claims() -> None:
    claims = (_claim("json", '{"values": [0,1,2,3,4]}'), _claim("query", "values[2]"))
    condition = 'c1:[type=="json"] && c2:[type=="query"]'
    assert _values("JmesPath(c1.value, c2.value)", *claims, condition=condition) == ["2"]


def test_a_function_applies_to_each_claim_that_matched() -> None:
    claims = (_claim("a", "x"), _claim("a", "y"))
    assert _values('AppendString(c.value, "!")', *claims, condition='c:[type=="a"]') == ["x!", "y!"]


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (["abc", 100], [True, "abc", 100], True),
        (["abc", 7], [True, "abc", 100], False),
        ([1], [True], False),
        ([True], [1], False),
        (["1"], [1], False),
        ([5, 5], [5], True),
    ],
)
def test_subset_compares_values_with_their_types(part: list[object], whole: list[object], expected: bool) -> None:
    claims = [*(_claim("part", one) for one in part), *(_claim("whole", one) for one in whole)]
    condition = 'a:[type=="part"] && b:[type=="whole"]'
    assert _values("IsSubsetOf(a.value, b.value)", *claims, condition=condition) == [expected]


def test_the_empty_set_is_a_subset_of_anything() -> None:
    assert _values('IsSubsetOf(JsonToClaimValue("[]"), JsonToClaimValue("[1]"))') == [True]


@pytest.mark.parametrize(
    ("values", "only", "expected"),
    [([100, 101], "100", False), ([100, 100], "100", True), ([True], "1", False), ([1, "1"], "1", False)],
)
def test_contains_only_value(values: list[object], only: str, expected: bool) -> None:
    claims = [_claim("set", one) for one in values]
    assert _values(f"ContainsOnlyValue(c.value, {only})", *claims, condition='c:[type=="set"]') == [expected]


def test_contains_only_value_is_false_on_an_empty_set() -> None:
    assert _values('ContainsOnlyValue(JsonToClaimValue("[]"), 1)') == [False]


def test_negates_and_appends() -> None:
    assert _values("NegateBool(NegateBool(true))") == [True]
    assert _values('AppendString("", AppendString("a", "b"))') == ["ab"]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ('NegateBool(JsonToClaimValue("1"))', "argument 1 of NegateBool: expected a Boolean, seen the Integer 1"),
        ('AppendString("a", JsonToClaimValue("null"))', "expected one String, seen no values"),
        ('AppendString(JsonToClaimValue("[true,false]"), "a")', "seen 2 values"),
        ('ContainsOnlyValue(1, JsonToClaimValue("[1,1]"))', "expected one value, seen 2 values"),
        (r'JmesPath("{\"a\":1}", "length(a)")', "fails on this JSON"),
    ],
)
def test_a_function_on_a_wrong_value_says_which_argument(expression: str, why: str) -> None:
    assert why in _why(expression)


def test_text_cannot_grow_without_end() -> None:
    rules = 'c:[type=="a"] => add(type="b", value=AppendString(c.value, c.value));'
    decision = _issue(rules, _claim("a", "x" * 200_000))
    assert "AppendString gives at most" in decision.trace[-1].why


# conditions


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('[type=="a", value==NegateBool(false)]', True),
        ('[type=="a", value==NegateBool(true)]', False),
        ('[type=="n", value==JsonToClaimValue("[1,2,3]")]', True),
        ('[type=="n", value==JsonToClaimValue("[1,3]")]', False),
        ('[type=="n", value==JsonToClaimValue("null")]', False),
        ('[type=="n", value>=JsonToClaimValue("2")]', True),
        ('c:[type=="n"] && [type=="a", value==ContainsOnlyValue(c.value, 2)]', True),
        ('![type=="b"]', True),
        ('![type=="a"]', False),
        ('![type=="a", value==false]', True),
        ('c:[type=="a"] && ![type=="b", value==c.value]', True),
        ('c:[type=="a"] && ![type=="t", value==c.value]', False),
    ],
)
def test_conditions_with_functions_and_negation(condition: str, holds: bool) -> None:
    text = f"version=1.2;authorizationrules{{{condition} => permit();}};"
    claims = (_claim("a", True), _claim("n", 2), _claim("t", True))
    assert evaluate(parse(text), claims).authorized is holds


def test_trace_of_a_negated_condition_names_the_claim_in_the_way() -> None:
    decision = evaluate(parse('version=1.2;authorizationrules{![type=="a"] => permit();};'), (_claim("a", 5),))
    assert 'a claim is there that must not be: "a" = 5' in decision.trace[0].why
    assert decision.trace[0].conditions[0].matched
    assert not decision.trace[0].conditions[0].held


@pytest.mark.parametrize(
    "rule",
    [
        '[type=="a", value==JsonToClaimValue("{}")] => deny();',
        '![type=="a", value==JsonToClaimValue("{}")] => deny();',
        '=> add(type="x", value=JsonToClaimValue("{}"));',
    ],
)
def test_refuses_when_a_rule_before_issuance_cannot_be_worked_out(rule: str) -> None:
    decision = evaluate(parse(f"version=1.2;\nauthorizationrules{{\n=> permit();\n{rule}\n}};"), (_claim("a", 1),))
    assert not decision.authorized
    assert decision.deciding is None
    assert "rule 2, line 4, could not be worked out: " in decision.reason
    assert "an object is no claim value" in decision.reason


def test_refuses_when_a_configuration_rule_cannot_be_worked_out() -> None:
    text = (
        'version=1.2;configurationrules{=> issueproperty(type="x", value=JsonToClaimValue("{}"));};'
        "authorizationrules{=>permit();};"
    )
    decision = evaluate(parse(text), ())
    assert not decision.authorized
    assert decision.reason.startswith("configuration rule 1")


def test_a_deny_that_fired_counts_before_a_failed_rule() -> None:
    text = 'version=1.2;authorizationrules{=> add(type="x", value=JsonToClaimValue("{}")); => deny();};'
    assert "deny() by" in evaluate(parse(text), ()).reason


# read-only claims


@pytest.mark.parametrize(
    "expression",
    [
        "c.value",
        'NegateBool(JsonToClaimValue(JmesPath(c.value, "a == `1`")))',
        'AppendString("x", c.value)',
        "AppendString(c.value, c.type)",
        'JmesPath(c.value, "a")',
        'JsonToClaimValue(JmesPath(c.value, "a"))',
    ],
)
def test_what_comes_from_a_read_only_claim_is_not_issued(expression: str) -> None:
    pcrs = _claim("pcrs", '{"a": 1}', read_only=True)
    decision = _issue(f'c:[type=="pcrs"] => issue(type="r", value={expression});', pcrs)
    assert decision.issued == ()
    assert "read-only" in decision.trace[-1].why


def test_a_read_only_claim_is_not_copied_into_the_token() -> None:
    assert _issue('c:[type=="p"] => issue(claim=c);', _claim("p", 1, read_only=True)).issued == ()


def test_read_only_survives_being_added_under_another_name() -> None:
    rules = 'c:[type=="p"] => add(type="q", value=c.value);\nc:[type=="q"] => issue(type="r", value=c.value);'
    assert _issue(rules, _claim("p", 1, read_only=True)).issued == ()


@pytest.mark.parametrize("expression", ["ContainsOnlyValue(c.value, 1)", "IsSubsetOf(c.value, 1)"])
def test_answers_about_sets_may_be_issued_whatever_they_are_about(expression: str) -> None:
    assert _values(expression, _claim("p", 1, read_only=True), condition='c:[type=="p"]') == [True]


def test_conditions_may_ask_for_read_only_claims() -> None:
    assert _values("true", _claim("p", 1, read_only=True), condition='[type=="p", value==1]') == [True]


# checks before evaluation


def _refusal(rule: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse(f"version=1.2;\nissuancerules{{\n{rule}\n}};")
    return caught.value


@pytest.mark.parametrize(
    ("rule", "code", "column", "said"),
    [
        ('=> add(type="b", value=ContainsOnlyValue(100));', "policy.function.arguments", 24, "the set comes first"),
        ('=> add(type="b", value=NegateBool());', "policy.function.arguments", 24, "takes 1 argument, seen 0"),
        ('=> add(type="b", value=NegateBol(true));', "policy.function.unknown", 24, "did you mean 'NegateBool'?"),
        ('=> add(type="b", value=jmespath("{}", "a"));', "policy.function.unknown", 24, "write 'JmesPath'"),
        ('=> add(type="b", value=Exec("rm"));', "policy.function.unknown", 24, "expected a function"),
        ('=> add(type="b", value=NegateBool("true"));', "policy.function.argument", 35, "is a Boolean, seen a String"),
        ('=> add(type="b", value=AppendString("a", 1));', "policy.function.argument", 42, "argument 2"),
        ('=> add(type="b", value=AppendString("a", NegateBool(true)));', "policy.function.argument", 42, "Boolean"),
        ("=> add(type=NegateBool(true), value=1);", "policy.value.type", 13, "type is a String"),
        ('[value >= NegateBool(true)] => add(type="a", value=1);', "policy.operator.type", 11, "compares Integers"),
        ('c:[value==1] && [value >= c.type] => add(type="a", value=1);', "policy.operator.type", 27, "a String"),
        ('=> add(type="a", value=NegateBool(true), valueType="String");', "policy.value.type", 52, "of type Boolean"),
        ('=> add(type="b", value=JmesPath("{}", "a["));', "policy.jmespath.syntax", 39, "no JMESPath query"),
        ('=> add(type="b", value=JmesPath("{}", "`a`"));', "policy.jmespath.literal", 39, "holds no JSON"),
        ('=> add(type="b", value=JmesPath("{}", "nope(@)"));', "policy.jmespath.function", 39, "nope()"),
        (
            'c:[type=="String1"] => add(type="R", value=AppendString(c1.value, c.value));',
            "policy.identifier.unbound",
            57,
            "(there: c)",
        ),
        ('!c:[type=="a"] => add(type="b", value=c.value);', "policy.identifier.unbound", 39, "'!' names nothing"),
        ('\\![type=="a"] => add(type="b", value=1);', "policy.character", 1, "write it without"),
        (r'=> add(type="b", value=JmesPath("{}", "a \| b"));', "policy.string.escape", 42, "write it without"),
        ('=> add(type="b", value=NegateBool(true;', "policy.syntax", 39, "joined by ','"),
    ],
)
def test_names_place_and_cure_of_a_slip_in_a_function(rule: str, code: str, column: int, said: str) -> None:
    error = _refusal(rule)
    assert (error.code, error.where) == (code, f"line 3, column {column}")
    assert said in f"{error.message} {error.hint}"


def test_takes_calls_16_deep_and_refuses_one_more() -> None:
    parse('version=1.2;issuancerules{=> add(type="a", value=%s);};' % ("NegateBool(" * 16 + "true" + ")" * 16))
    error = _refusal('=> add(type="a", value=%s);' % ("NegateBool(" * 17 + "true" + ")" * 17))
    assert error.code == "policy.function.depth"


def test_calls_side_by_side_do_not_count_as_deep() -> None:
    call = "AppendString(" * 15 + '"a", "b")' + ', "c")' * 14
    parse(f"version=1.2;issuancerules{{=> add(type={call}, value={call});}};")
