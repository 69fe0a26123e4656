import pytest

from bastide.errors import MalformedError, PolicyError
from bastide.policy.jmespath_query import LONGEST_QUERY, check_query, search
from bastide.policy.json_value import DEEPEST_JSON, LARGEST_JSON

_BUDGET = 200_000


class _Budget:
    """A budget that tells what was spent."""

    def __init__(self) -> None:
        self.spent = 0

    def __call__(self, steps: int) -> None:
        self.spent += steps
        if self.spent > _BUDGET:
            raise PolicyError("test.budget", "used up")


def _search(document: str, query: str) -> str:
    return search(document, query, _Budget())


@pytest.mark.parametrize(
    ("document", "query", "result"),
    [
        ('{"foo": "bar"}', "foo", '"bar"'),
        ('{"values": [0,1,2,3,4]}', "values[2]", "2"),
        ('{"a": 1}', "b", "null"),
        ('{"a": {"b": "\u00e4"}}', "a", '{"b":"\u00e4"}'),
        ('[{"n": "x", "v": "AQ"}]', "[?n == 'x'] | length(@) == `1` && @[0].v == 'AQ'", "true"),
        ('[{"n": 3}, {"n": 1}]', "sort_by(@, &n)[*].n", "[1,3]"),
        ("[1, 2, 3]", "[?@ > `1` || !@]", "[2,3]"),
    ],
)
def test_finds_what_jmespath_finds(document: str, query: str, result: str) -> None:
    assert _search(document, query) == result


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("equals_ignore_case(a, 'aBC')", "true"),
        ("equals_ignore_case(a, 'abd')", "false"),
        ("equals_ignore_case(missing, 'abc')", "false"),
        ("equals_ignore_case(k, 'k')", "false"),
    ],
)
def test_compares_ascii_letters_without_case(query: str, result: str) -> None:
    kelvin = "\u212a"  # folds to k in Unicode, which a file path or a vendor's name must not
    assert _search(f'{{"a": "Abc", "k": "{kelvin}"}}', query) == result


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "policy.jmespath.syntax"),
        ("[@", "policy.jmespath.syntax"),
        ("`", "policy.jmespath.syntax"),
        ("a b", "policy.jmespath.syntax"),
        ("`abc`", "policy.jmespath.literal"),
        ("`NaN`", "policy.jmespath.literal"),
        ("`" + "[" * 2000 + "`", "policy.jmespath.literal"),
        ("nope(@)", "policy.jmespath.function"),
        ("(" * 65 + "@" + ")" * 65, "policy.jmespath.depth"),
        ("!" * 65 + "@", "policy.jmespath.depth"),
        ("a" + "[*]" * 40, "policy.jmespath.depth"),
        ("*" + ".*" * 70, "policy.jmespath.depth"),
        ("||".join("a" * 100), "policy.jmespath.depth"),
        ("a" * (LONGEST_QUERY + 1), "policy.jmespath.size"),
    ],
)
def test_refuses_a_query_that_could_never_be_evaluated(query: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        check_query(query)
    assert caught.value.code == code


def test_takes_a_query_of_the_greatest_depth_and_length() -> None:
    check_query("(" * 64 + "@" + ")" * 64)
    check_query("a" * LONGEST_QUERY)
    check_query("'" + "([{" * 100 + "'")  # brackets in strings do not nest


@pytest.mark.parametrize(
    ("document", "query", "code"),
    [
        ("", "a", "policy.json.syntax"),
        ("[1", "a", "policy.json.syntax"),
        ("[" * (DEEPEST_JSON + 1) + "]" * (DEEPEST_JSON + 1), "@", "policy.json.depth"),
        ("[" * 100_000, "@", "policy.json.depth"),
        (" " * (LARGEST_JSON + 1), "@", "policy.json.size"),
        ('{"a": 1}', "length(a)", "policy.jmespath.evaluation"),
        ('{"a": 1}', "length()", "policy.jmespath.evaluation"),
        ("[1]", "[::0]", "policy.jmespath.evaluation"),
        ('"a"', "contains(@, `1`)", "policy.jmespath.evaluation"),
        ("1", "&a", "policy.json.syntax"),
        ("1", "abs(`-1e400`)", "policy.json.syntax"),
    ],
)
def test_a_search_that_fails_says_why(document: str, query: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        _search(document, query)
    assert caught.value.code == code


def test_accepts_json_of_the_greatest_depth() -> None:
    assert _search("[" * DEEPEST_JSON + "]" * DEEPEST_JSON, "length(@)") == "1"


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("1", " | ".join(["[@,@]"] * 30)),
        ("1", " | ".join(["[@,@]"] * 16) + " | to_string(@) == to_string(@)"),
        ("1", " | ".join(["{a:@,b:@}"] * 30)),
        ("1", " | ".join(["[@,@]"] * 30) + " | @[0].x"),
        (f"[{','.join('1' * 100_000)}]", "sort(@)"),
        (f"[{','.join('1' * 60_000)}]", "[?@ == `1`]"),
        (f"[{','.join('1' * 60_000)}]", "@ == @"),
        (f"[{','.join('1' * 600)}]", "[*].[`" + f"[{','.join('1' * 500)}]" + "`]"),
    ],
    ids=[
        "doubling",
        "doubled-text",
        "doubling-objects",
        "doubled-and-dropped",
        "sort",
        "filter",
        "compare",
        "literal-copies",
    ],
)
def test_work_that_grows_runs_out_of_steps(document: str, query: str) -> None:
    with pytest.raises(PolicyError):
        _search(document, query)


def test_one_comparison_inside_another_is_worked_out_once() -> None:
    budget = _Budget()
    search("1", "==".join(["@"] * 60), budget)
    assert budget.spent < 2_000


def test_the_price_follows_the_size_of_the_document() -> None:
    small, large = _Budget(), _Budget()
    search('"a"', "@", small)
    search('"' + "a" * 64_000 + '"', "@", large)
    assert large.spent - small.spent >= 2 * 1_000 - 2


@pytest.mark.parametrize("query", ["@ == `1`", "`1` != @", "type(@)", "contains([`1`], @)"])
def test_comparing_and_calling_cost_the_size_of_what_is_looked_at(query: str) -> None:
    members = 5_000
    budget = _Budget()
    search("{" + ",".join(f'"{number}":1' for number in range(members)) + "}", query, budget)
    assert budget.spent >= members + members // 8
