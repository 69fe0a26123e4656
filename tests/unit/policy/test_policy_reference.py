"""Every example of docs/reference/policy-language.md is run, and every limit that it names is the one in force."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from bastide.errors import MalformedError
from bastide.policy import ATTESTATION_SERVICE, Claim, evaluate, parse
from bastide.policy.evaluate import STEP_BUDGET
from bastide.policy.jmespath_query import LONGEST_QUERY, MOST_NESTING
from bastide.policy.json_value import DEEPEST_JSON, LARGEST_JSON
from bastide.policy.lexer import LARGEST_TEXT
from bastide.policy.parser import DEEPEST_CALL, MOST_RULES
from bastide.policy.render import render_value

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "policy-language.md"
_TEXT = _PAGE.read_text()
_BLOCK = re.compile(r"^```policy\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CLAIM = re.compile(r"(\S+) = (.+?)( read-only)?")


@dataclass(frozen=True)
class _Example:
    text: str
    given: tuple[Claim, ...]
    outcome: str
    issues: tuple[str, ...]
    error: str

    def __str__(self) -> str:
        return self.text


def _example(text: str) -> _Example:
    notes = [line.removeprefix("// ") for line in text.splitlines() if line.startswith("// ")]
    return _Example(
        text=text,
        given=tuple(_claim(note.removeprefix("given: ")) for note in notes if note.startswith("given: ")),
        outcome=next((note for note in notes if note in ("permitted", "denied")), ""),
        issues=tuple(note.removeprefix("issues: ") for note in notes if note.startswith("issues: ")),
        error=next((note.removeprefix("error: ") for note in notes if note.startswith("error: ")), ""),
    )


def _claim(note: str) -> Claim:
    match = _CLAIM.fullmatch(note)
    assert match, note
    value = parse(f'version=1.0;issuancerules{{=>issue(type="a",value={match[2]});}};').sections[0].rules[0]
    return Claim(
        type=match[1],
        value=value.action.claim.assignments[1].expression.value,
        issuer=ATTESTATION_SERVICE,
        read_only=bool(match[3]),
    )


_EXAMPLES = [_example(text) for text in _BLOCK.findall(_TEXT)]


def test_the_page_has_its_examples() -> None:
    assert len(_EXAMPLES) >= 15
    assert all(example.outcome or example.error for example in _EXAMPLES)


@pytest.mark.parametrize("example", [one for one in _EXAMPLES if one.outcome], ids=str)
def test_example_comes_out_as_the_page_says(example: _Example) -> None:
    decision = evaluate(parse(example.text), example.given)
    assert decision.authorized is (example.outcome == "permitted"), decision.reason
    assert tuple(f"{one.type} = {render_value(one.value)}" for one in decision.issued) == example.issues


@pytest.mark.parametrize("example", [one for one in _EXAMPLES if one.error], ids=str)
def test_example_is_refused_as_the_page_says(example: _Example) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(example.text)
    assert f"{caught.value.code} at {caught.value.where}" == example.error


def test_the_limits_of_the_page_are_those_in_force() -> None:
    assert f"| text | {LARGEST_TEXT >> 10} KiB |" in _TEXT
    assert f"| rules | {MOST_RULES} |" in _TEXT
    assert f"| calls in calls | {DEEPEST_CALL} |" in _TEXT
    assert f"| steps of one evaluation | {STEP_BUDGET:,} |" in _TEXT
    assert f"{LONGEST_QUERY:,} characters; {MOST_NESTING} brackets" in _TEXT
    assert f"makes | {LARGEST_JSON >> 10} Ki characters |" in _TEXT
    assert f"| levels of JSON | {DEEPEST_JSON} |" in _TEXT


@pytest.mark.parametrize(
    ("slip", "code"),
    [
        ('[type="x"] => permit();', "policy.condition.operator"),
        ("=> permit()", "policy.rule.end"),
        ('=> issue("X", value=1);', "policy.claim.unnamed"),
        ('=> issue(type="X\u201d, value=1);', "policy.string.open"),
        ("=> issue(type=\u201cX, value=1);", "policy.character"),
        ('=> issue(type="X", value=ContainsOnlyValue(100));', "policy.function.arguments"),
        ('=> issue(type="X", value=NegateBol(true));', "policy.function.unknown"),
        ('c:[type=="a"] => add(type="b", value=AppendString(c1.value, "x"));', "policy.identifier.unbound"),
        ('\\![type=="a"] => add(type="b", value=1);', "policy.character"),
        ('=> add(type="b", value=JmesPath("{}", "a \\| b"));', "policy.string.escape"),
    ],
)
def test_slips_of_the_page_have_the_code_that_it_names(slip: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(f"version=1.2;issuancerules{{{slip}}};")
    assert caught.value.code == code
    assert f"`{code}`" in _TEXT
