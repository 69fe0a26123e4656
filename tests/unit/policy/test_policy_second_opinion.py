"""The policy language's shape, asked of somebody else: a grammar for lark, written from the reference and not from
our parser, must take and refuse the same texts.

What only one of the two knows is kept out: which version a construct belongs to (texts say 1.2), limits, and what
``check`` asks beyond the shape.
"""

import random
from collections.abc import Iterator
from functools import cache

import pytest
from lark import Lark
from lark.exceptions import UnexpectedInput

from bastide.errors import MalformedError
from bastide.policy import parse, render
from bastide.policy.parser import parse_syntax
from support.vectors import vectors

_GRAMMAR = r"""
start: "version" "=" version ";" section*
version: NUMBER "." NUMBER
section: SECTION "{" rule* "}" ";"
rule: [condition ("&&" condition)*] "=>" action ";"
condition: ["!"] [name ":"] "[" comparison ("," comparison)* "]"
comparison: PROPERTY COMPARE expression
action: "permit" "(" ")" | "deny" "(" ")" | VERB "(" claim ")"
claim: "claim" "=" name | assignment ("," assignment)*
assignment: PROPERTY "=" expression
expression: STRING | NUMBER | BOOLEAN | name "." PROPERTY | FUNCTION "(" [expression ("," expression)*] ")"
name: NAME | PROPERTY | VERB | SECTION | FUNCTION | "version" | "permit" | "deny" | "claim"

SECTION.3: /(configurationrules|authorizationrules|issuancerules)(?![A-Za-z0-9_])/i
PROPERTY.3: /(type|valueType|value|issuer)(?![A-Za-z0-9_])/
VERB.3: /(add|issueproperty|issue)(?![A-Za-z0-9_])/
BOOLEAN.3: /(true|false)(?![A-Za-z0-9_])/
FUNCTION.3: /(JmesPath|JsonToClaimValue|IsSubsetOf|AppendString|NegateBool|ContainsOnlyValue)(?![A-Za-z0-9_])/
COMPARE: "==" | "!=" | "<=" | ">=" | "<" | ">"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
NUMBER: /[0-9]{1,18}/
STRING: /"([^"\\\r\n]|\\["\\])*"/
%ignore /[ \t\r\n]+/
%ignore /\/\/[^\n]*/
"""

_ATOMS = ('"x"', '"a\\"b\\\\"', "7", "true", "false", "c.value", "F1.type", "c . issuer", "claim.value")
_FUNCTIONS = ("JmesPath", "JsonToClaimValue", "IsSubsetOf", "AppendString", "NegateBool", "ContainsOnlyValue")
_PROPERTIES = ("type", "value", "valueType", "issuer")
_TOKENS = (
    *("version", "=", ";", "{", "}", "(", ")", "[", "]", "=>", "&&", ",", ":", ".", "!", "==", "<=", "c", "1", "1.2"),
    *(*_ATOMS, *_FUNCTIONS, *_PROPERTIES, "issue", "permit", "deny", "claim", "issuancerules", "AuthorizationRules"),
    *(" ", "\n", "// note\n", '"', "\\", "&", "'", "-", "#", "\u201c"),
)


@cache
def _lark() -> Lark:
    return Lark(_GRAMMAR, parser="earley", lexer="basic")


class _Writer:
    """Writes a policy at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def policy(self) -> str:
        kinds = ["configurationrules", "authorizationrules", "issuancerules"]
        sections = [f"{kind}{self._gap()}{{{self._rules()}}};" for kind in kinds if self._random.random() < 0.7]
        return f"version={self._gap()}1.2;{self._gap()}" + self._gap().join(sections)

    def mutated(self) -> str:
        tokens = list(self._split(self.policy()))
        for _ in range(self._random.randint(1, 2)):
            place = self._random.randrange(len(tokens))
            match self._random.randrange(4):
                case 0:
                    del tokens[place]
                case 1:
                    tokens.insert(place, self._random.choice(_TOKENS))
                case 2:
                    tokens[place] = self._random.choice(_TOKENS)
                case 3:
                    other = self._random.randrange(len(tokens))
                    tokens[place], tokens[other] = tokens[other], tokens[place]
            tokens = tokens or [" "]
        return "".join(tokens)

    def _split(self, text: str) -> Iterator[str]:
        rest = text
        while rest:
            token = next((one for one in sorted(_TOKENS, key=len, reverse=True) if rest.startswith(one)), rest[0])
            yield token
            rest = rest[len(token) :]

    def _gap(self) -> str:
        return self._random.choice(("", "", " ", "\n", "\t", '// note }; " \n'))

    def _rules(self) -> str:
        return self._gap().join(self._rule() for _ in range(self._random.randint(0, 2)))

    def _rule(self) -> str:
        conditions = f"{self._gap()}&&{self._gap()}".join(self._condition() for _ in range(self._random.randint(0, 2)))
        return f"{conditions}{self._gap()}=>{self._gap()}{self._action()};"

    def _condition(self) -> str:
        name = self._random.choice(("", "c:", "F1 :", "type:"))
        many = range(self._random.randint(1, 2))
        parts = ",".join(
            f"{self._random.choice(_PROPERTIES)}{self._random.choice(('==', '!=', '<', '>='))}{self._expression()}"
            for _ in many
        )
        return f"{self._random.choice(('', '', '!'))}{name}[{parts}]"

    def _action(self) -> str:
        verb = self._random.choice(("permit", "deny", "add", "issue", "issueproperty"))
        if verb in ("permit", "deny"):
            return f"{verb}( )"
        if self._random.random() < 0.2:
            return f"{verb}(claim = c)"
        many = range(self._random.randint(1, 3))
        return f"{verb}({', '.join(f'{self._random.choice(_PROPERTIES)}={self._expression()}' for _ in many)})"

    def _expression(self, depth: int = 0) -> str:
        if depth > 2 or self._random.random() < 0.7:
            return self._random.choice(_ATOMS)
        arguments = ", ".join(self._expression(depth + 1) for _ in range(self._random.randint(0, 2)))
        return f"{self._random.choice(_FUNCTIONS)}({arguments})"


def _lark_takes(text: str) -> bool:
    try:
        _lark().parse(text)
    except UnexpectedInput:
        return False
    return True


def _we_take(text: str) -> bool | None:
    """Whether our parser takes it; None when it stumbles over the version, of which the grammar knows nothing."""
    try:
        parse_syntax(text)
    except MalformedError as error:
        about_version = error.code in ("policy.version.unsupported", "policy.version.construct")
        return None if about_version else False
    return True


@pytest.mark.parametrize("seed", range(150))
def test_both_take_a_generated_policy(seed: int) -> None:
    text = _Writer(seed).policy()
    assert _lark_takes(text), text
    assert _we_take(text), text


@pytest.mark.parametrize("seed", range(450))
def test_both_say_the_same_of_a_mutated_policy(seed: int) -> None:
    text = _Writer(seed).mutated()
    assert _we_take(text) in (None, _lark_takes(text)), text


@pytest.mark.parametrize("seed", range(100))
def test_a_generated_policy_survives_being_printed(seed: int) -> None:
    policy = parse_syntax(_Writer(seed).policy())
    assert parse_syntax(render(policy)) == policy


def test_both_take_the_policies_of_the_vectors() -> None:
    for file in vectors("maa").glob("policies/*-v1.*.txt"):
        text = file.read_text()
        assert _lark_takes(text), file.name
        parse(text)
