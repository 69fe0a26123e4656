"""Tokens to syntax tree: recursive descent by hand, for messages that name the place, the slip and the cure.

Only the shape is judged here; what a well-shaped policy may say is ``check``'s business. Calls of functions are all
that nests, at most ``DEEPEST_CALL`` levels.

Source: reference attestation-service.md section 3, with the slips that Microsoft's own samples contain.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn

from bastide.errors import MalformedError
from bastide.policy.lexer import Kind, Token, tokens
from bastide.policy.syntax import (
    Action,
    Assignment,
    Call,
    ClaimCopy,
    Condition,
    Expression,
    Function,
    Literal,
    NewClaim,
    Note,
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

VERSIONS = ((1, 0), (1, 1), (1, 2))
MOST_RULES = 500
DEEPEST_CALL = 16
BOOLEANS = {"true": True, "false": False}

_OPERATORS = tuple(str(operator) for operator in Operator)
_PROPERTIES = {str(prop): prop for prop in Property}
_VERBS = {str(verb): verb for verb in Verb}
_SECTIONS = {str(kind): kind for kind in SectionKind}
_FUNCTIONS = {str(function): function for function in Function}
_CALLS_SINCE = (1, 2)


def parse_syntax(text: str) -> Policy:
    """The syntax tree of ``text``.

    Raises:
        MalformedError: the lexer's codes; ``policy.syntax``, ``policy.version.unsupported``,
            ``policy.version.construct``, ``policy.section.unknown``, ``policy.section.end``, ``policy.rule.end``,
            ``policy.rule.count``, ``policy.condition.operator``, ``policy.action.operator``, ``policy.claim.unnamed``,
            ``policy.function.unknown``, ``policy.function.depth``.
    """
    return _Parser(tokens(text)).policy()


class _Parser:
    """One pass over the tokens of one policy."""

    def __init__(self, stream: Sequence[Token]) -> None:
        self._stream = stream
        self._next = 0
        self._rules = 0
        self._depth = 0
        self._spoken = VERSIONS[-1]
        self._notes: list[Note] = []

    # the token stream

    @property
    def _token(self) -> Token:
        return self._stream[self._next]

    def _advance(self) -> Token:
        token = self._token
        if token.kind is not Kind.END:
            self._next += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._token.kind in (Kind.SYMBOL, Kind.IDENTIFIER) and self._token.text in texts

    def _follows(self, symbol: str) -> bool:
        after = self._stream[min(self._next + 1, len(self._stream) - 1)]
        return after.kind is Kind.SYMBOL and after.text == symbol

    def _fail(self, expected: str, *, code: str = "policy.syntax", hint: str | None = None) -> NoReturn:
        message = f"expected {expected}, seen {self._token}"
        raise MalformedError(code, message, hint=hint, where=str(self._token.at))

    def _expect(self, text: str, *, code: str = "policy.syntax", hint: str | None = None) -> Token:
        if not self._is(text):
            self._fail(f"'{text}'", code=code, hint=hint)
        return self._advance()

    def _expect_kind(self, kind: Kind, expected: str) -> Token:
        if self._token.kind is not kind:
            self._fail(expected)
        return self._advance()

    # policy, sections, rules

    def policy(self) -> Policy:
        version = self._spoken = self._version()
        sections: list[Section] = []
        while self._token.kind is not Kind.END:
            sections.append(self._section())
        return Policy(version=version, sections=tuple(sections), notes=tuple(self._notes))

    def _version(self) -> tuple[int, int]:
        self._expect("version", hint="a policy begins with its version, for example: version=1.1;")
        self._expect("=")
        at = self._token.at
        major = self._expect_kind(Kind.INTEGER, "the version's number, such as 1.1")
        self._expect(".")
        minor = self._expect_kind(Kind.INTEGER, "the version's number, such as 1.1")
        self._expect(";")
        seen = f"{major.text}.{minor.text}"
        for version in VERSIONS:
            if seen == "{}.{}".format(*version):
                return version
        raise MalformedError(
            "policy.version.unsupported",
            f"expected version 1.0, 1.1 or 1.2, seen {seen}",
            where=str(at),
        )

    def _section(self) -> Section:
        name = self._token
        kind = self._section_kind()
        self._expect("{")
        rules: list[Rule] = []
        while not self._is("}"):
            rules.append(self._rule())
        self._advance()
        self._expect(";", code="policy.section.end", hint="a section ends with '};'")
        return Section(kind=kind, rules=tuple(rules), at=name.at)

    def _section_kind(self) -> SectionKind:
        token = self._token
        kind = _SECTIONS.get(token.text.lower()) if token.kind is Kind.IDENTIFIER else None
        if kind is None:
            self._fail("a section: " + ", ".join(_SECTIONS), code="policy.section.unknown")
        if token.text != kind:
            message = f"'{token.text}' is read as '{kind}'; other services may not be so lenient"
            self._notes.append(Note(code="policy.section.case", message=message, at=token.at))
        self._advance()
        return kind

    def _rule(self) -> Rule:
        at = self._token.at
        self._rules += 1
        if self._rules > MOST_RULES:
            raise MalformedError(
                "policy.rule.count", f"a policy has at most {MOST_RULES} rules; this is one more", where=str(at)
            )
        conditions: list[Condition] = []
        if not self._is("=>"):
            conditions.append(self._condition())
            while self._is("&&"):
                self._advance()
                conditions.append(self._condition())
        self._expect("=>", hint="a rule reads: conditions => action; conditions are joined by &&")
        action = self._action()
        self._expect(";", code="policy.rule.end", hint="every rule ends with ';', the last one of a section too")
        return Rule(conditions=tuple(conditions), action=action, at=at)

    # conditions

    def _condition(self) -> Condition:
        at = self._token.at
        negated = self._is("!")
        if negated:
            self._needs_version_1_2("'!' before a condition")
            self._advance()
        identifier = None
        if self._token.kind is Kind.IDENTIFIER:
            identifier = self._identifier()
            self._expect(":", hint="an identifier stands before its condition as in c:[...]")
        if not self._is("["):
            self._fail("a condition in brackets or '=>'", hint="a section's rules end where '};' stands")
        self._advance()
        properties = [self._property_condition()]
        while self._is(","):
            self._advance()
            properties.append(self._property_condition())
        self._expect("]", hint="property conditions are joined by ','")
        return Condition(identifier=identifier, properties=tuple(properties), negated=negated, at=at)

    def _identifier(self) -> str:
        if self._is(*BOOLEANS):
            self._fail("an identifier", hint="true and false are values")
        return self._expect_kind(Kind.IDENTIFIER, "an identifier, such as c").text

    def _property_condition(self) -> PropertyCondition:
        at = self._token.at
        prop = self._property()
        if not self._is(*_OPERATORS):
            hint = "a condition compares with '=='; a single '=' only sets the properties of a new claim"
            self._fail("a comparison", code="policy.condition.operator", hint=hint if self._is("=") else None)
        operator = Operator(self._advance().text)
        return PropertyCondition(property=prop, operator=operator, expression=self._expression(), at=at)

    def _property(self) -> Property:
        prop = _PROPERTIES.get(self._token.text) if self._token.kind is Kind.IDENTIFIER else None
        if prop is None:
            self._fail("a claim property: " + ", ".join(_PROPERTIES), hint=self._case_hint(_PROPERTIES))
        self._advance()
        return prop

    # actions

    def _action(self) -> Action:
        at = self._token.at
        verb = _VERBS.get(self._token.text) if self._token.kind is Kind.IDENTIFIER else None
        if verb is None:
            self._fail("an action: " + ", ".join(_VERBS), hint=self._case_hint(_VERBS))
        self._advance()
        self._expect("(")
        claim = None if verb in (Verb.PERMIT, Verb.DENY) else self._claim(verb)
        self._expect(")", hint=f"{verb}() takes no claim" if claim is None else None)
        return Action(verb=verb, claim=claim, at=at)

    def _claim(self, verb: Verb) -> ClaimCopy | NewClaim:
        at = self._token.at
        if self._token.kind is Kind.STRING:
            hint = f'name the property: {verb}(type="{self._token.text[:40]}", value=...)'
            self._fail("a claim property", code="policy.claim.unnamed", hint=hint)
        if self._is("claim"):
            self._advance()
            self._assign()
            return ClaimCopy(identifier=self._identifier(), at=at)
        assignments = [self._assignment()]
        while self._is(","):
            self._advance()
            assignments.append(self._assignment())
        return NewClaim(assignments=tuple(assignments), at=at)

    def _assignment(self) -> Assignment:
        at = self._token.at
        prop = self._property()
        self._assign()
        return Assignment(property=prop, expression=self._expression(), at=at)

    def _assign(self) -> None:
        hint = "an action sets a property with '='; '==' compares, in conditions only" if self._is("==") else None
        self._expect("=", code="policy.action.operator", hint=hint)

    # expressions

    def _expression(self) -> Expression:
        token = self._token
        if token.kind is Kind.IDENTIFIER:
            return self._named_expression()
        if token.kind not in (Kind.STRING, Kind.INTEGER):
            self._fail("a value: a string in double quotes, an integer, true, false, or c.value")
        self._advance()
        return Literal(value=token.text if token.kind is Kind.STRING else int(token.text), at=token.at)

    def _named_expression(self) -> Expression:
        token = self._token
        if token.text in BOOLEANS:
            self._advance()
            return Literal(value=BOOLEANS[token.text], at=token.at)
        if self._follows("("):
            return self._call()
        if not self._follows("."):
            hint = (
                self._case_hint(BOOLEANS)
                or f"a string needs quotes; a property of a claim reads {token.text[:40]}.value"
            )
            self._fail("a value", hint=hint)
        self._advance()
        self._advance()
        return Reference(identifier=token.text, property=self._property(), at=token.at)

    def _call(self) -> Call:
        at = self._token.at
        function = self._function()
        self._expect("(")
        self._depth += 1
        if self._depth > DEEPEST_CALL:
            message = f"calls stand in calls at most {DEEPEST_CALL} deep; this one is deeper"
            raise MalformedError("policy.function.depth", message, where=str(at))
        arguments: list[Expression] = []
        if not self._is(")"):
            arguments.append(self._expression())
        while arguments and self._is(","):
            self._advance()
            arguments.append(self._expression())
        self._expect(")", hint="arguments are joined by ','")
        self._depth -= 1
        return Call(function=function, arguments=tuple(arguments), at=at)

    def _function(self) -> Function:
        token = self._token
        self._needs_version_1_2(f"the function {token.text[:40]}()")
        function = _FUNCTIONS.get(token.text)
        if function is None:
            near = difflib.get_close_matches(token.text[:40], _FUNCTIONS, n=1, cutoff=0.7)
            hint = self._case_hint(_FUNCTIONS) or (f"did you mean '{near[0]}'?" if near else None)
            self._fail("a function: " + ", ".join(_FUNCTIONS), code="policy.function.unknown", hint=hint)
        self._advance()
        return function

    def _needs_version_1_2(self, construct: str) -> None:
        if self._spoken < _CALLS_SINCE:
            raise MalformedError(
                "policy.version.construct",
                "{} belongs to version 1.2 of the language; this policy says version {}.{}".format(
                    construct, *self._spoken
                ),
                hint="write version=1.2;",
                where=str(self._token.at),
            )

    def _case_hint(self, words: Iterable[str]) -> str | None:
        wanted = next((word for word in words if word.lower() == self._token.text.lower()), None)
        return f"write '{wanted}': upper and lower case matter" if wanted else None
