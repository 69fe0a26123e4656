"""A policy made ready decides as its text says, whatever is looked up by type."""

from dataclasses import replace

import pytest

from bastide.policy import ATTESTATION_SERVICE, DEFAULT_SGX_POLICY, Claim, PolicyDocument, evaluate, parse
from bastide.policy.program import Program
from bastide.policy.syntax import SectionKind

CLAIMS = tuple(
    Claim(type=kind, value=value, issuer=ATTESTATION_SERVICE) for kind in "ab" for value in (1, 2, "1", True, "x")
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('type=="a"', [1, 2, "1", True, "x"]),
        ('value==1, type=="a"', [1]),
        ('type=="a", value!="x"', ["1"]),
        ('type=="a", type=="b"', []),
        ('type=="a", type!="b", value==true', [True]),
        ('type=="c"', []),
        ('type!="a", value==2', [2]),
    ],
)
def test_a_condition_matches_what_a_reading_of_all_claims_matches(
    condition: str, expected: list[str | int | bool]
) -> None:
    text = f'version=1.0;authorizationrules{{c:[{condition}] => add(type="n", value=c.value);}};'
    (entry,) = evaluate(parse(text), CLAIMS).trace
    matched = entry.conditions[0].matched
    assert [(type(claim.value), claim.value) for claim in matched] == [(type(one), one) for one in expected]
    assert [claim.value for claim in entry.produced] == expected


def test_claims_that_rules_add_are_found_by_their_type() -> None:
    text = (
        'version=1.0;authorizationrules{c:[type=="a", value==2] => add(type="new", value=c.value);'
        '[type=="new", value==2] => permit();};'
    )
    assert evaluate(parse(text), CLAIMS).authorized


def test_a_read_only_claim_taints_its_renaming() -> None:
    text = (
        'version=1.0;authorizationrules{=>permit();};issuancerules{c:[type=="a"] => issue(type="b", value=c.value);};'
    )
    claims = [Claim(type="a", value=1, read_only=True), Claim(type="a", value=2)]
    decision = evaluate(parse(text), claims)
    assert [claim.value for claim in decision.issued] == [2]
    assert decision.trace[-1].failed


def test_a_document_is_made_ready_once_and_decides_the_same() -> None:
    document = PolicyDocument.parse(DEFAULT_SGX_POLICY)
    assert evaluate(document.program, CLAIMS) == evaluate(document.policy, CLAIMS)
    assert len(document.program.sections[SectionKind.ISSUANCE]) == 6
    assert Program.of(document.policy) == document.program


@pytest.mark.parametrize(
    ("rules", "reads"),
    [
        ("=>permit();", set()),
        ('c:[type=="a", value==1] && [type=="b", value==c.value] => permit();', {"a", "b"}),
        ('![type=="a"] => permit();', {"a"}),
        ('[type=="a"] && [value==1] => permit();', None),
        ('[type!="a"] => permit();', None),
        ('c:[type=="a"] && [type==c.value] => permit();', None),
    ],
)
def test_a_program_knows_the_types_that_its_conditions_ask_for(rules: str, reads: set[str] | None) -> None:
    program = Program.of(parse(f"version=1.2;authorizationrules{{{rules}}};"))
    assert program.reads == reads


@pytest.mark.parametrize(
    "rules",
    [
        'c:[type=="a", value==1] => add(type="n", value=c.value); [type=="n"] => permit();',
        '[type=="a", type!="b", value=="none"] => permit();',
        '![type=="a", value==2] => permit();',
        'c:[type=="a"] && [type=="a", value==c.value] => permit();',
    ],
)
def test_claims_that_no_condition_asks_for_change_nothing_not_even_the_trace(rules: str) -> None:
    program = Program.of(parse(f"version=1.2;authorizationrules{{{rules}}};"))
    others = [replace(claim, value="another") if claim.type == "b" else claim for claim in CLAIMS]
    assert program.reads is not None
    assert "b" not in program.reads
    assert evaluate(program, others) == evaluate(program, CLAIMS)
    changed = [replace(claim, value="none") if claim.type == "a" else claim for claim in CLAIMS]
    assert evaluate(program, changed) != evaluate(program, CLAIMS)
