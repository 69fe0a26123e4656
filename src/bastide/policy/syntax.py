"""The syntax tree of a policy: plain values, equal when they mean the same wherever they stood in a text.

Every node has ``at``, where it began; it takes no part in comparison, so that ``parse(render(p)) == p``.

Source: reference attestation-service.md section 3 (Microsoft publishes no grammar; this one was rebuilt from its
documentation, samples and error messages).
"""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text; line and column count from 1, columns in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


NOWHERE = Span(0, 0)


class Property(StrEnum):
    """The four properties of a claim."""

    TYPE = "type"
    VALUE = "value"
    VALUE_TYPE = "valueType"
    ISSUER = "issuer"


class Operator(StrEnum):
    """Comparisons; the last four are for Integers only."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


class SectionKind(StrEnum):
    """The sections of a policy, in the order in which they are evaluated."""

    CONFIGURATION = "configurationrules"
    AUTHORIZATION = "authorizationrules"
    ISSUANCE = "issuancerules"


class Verb(StrEnum):
    """What a rule can do."""

    PERMIT = "permit"
    DENY = "deny"
    ADD = "add"
    ISSUE = "issue"
    ISSUE_PROPERTY = "issueproperty"


class Function(StrEnum):
    """The functions of version 1.2, spelled as the language spells them."""

    JMES_PATH = "JmesPath"
    JSON_TO_CLAIM_VALUE = "JsonToClaimValue"
    IS_SUBSET_OF = "IsSubsetOf"
    APPEND_STRING = "AppendString"
    NEGATE_BOOL = "NegateBool"
    CONTAINS_ONLY_VALUE = "ContainsOnlyValue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """``"text"``, ``42``, ``true``."""

    value: str | int | bool
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """``c.value``: a property of the claims that an earlier condition of the rule matched."""

    identifier: str
    property: Property
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``NegateBool(c.value)``: a function of version 1.2 with its arguments, which may be calls again."""

    function: Function
    arguments: tuple["Expression", ...]
    at: Span = field(default=NOWHERE, compare=False)


Expression = Literal | Reference | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyCondition:
    """``value >= 2`` inside the brackets of a condition."""

    property: Property
    operator: Operator
    expression: Expression
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """``c:[type=="x", value==true]``: holds when at least one claim satisfies every property condition.

    With ``negated`` (``![...]``, version 1.2) it holds when no claim does.
    """

    identifier: str | None = None
    properties: tuple[PropertyCondition, ...]
    negated: bool = False
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``value = c.value`` in the claim that an action makes."""

    property: Property
    expression: Expression
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCopy:
    """``claim = c``: the matched claims as they are."""

    identifier: str
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClaim:
    """``type="x", value=c.value``: a claim built from its properties."""

    assignments: tuple[Assignment, ...]
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """``permit()``, ``deny()``, or ``add``, ``issue``, ``issueproperty`` with the claim that they take."""

    verb: Verb
    claim: ClaimCopy | NewClaim | None = None
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``conditions => action;``; no conditions: always."""

    conditions: tuple[Condition, ...] = ()
    action: Action
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section with its rules in order."""

    kind: SectionKind
    rules: tuple[Rule, ...] = ()
    at: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something in a policy that works and is worth a second look.

    Attributes:
        code: stable identifier, such as ``policy.section.case``.
        message: what was seen.
        at: where.
    """

    code: str
    message: str
    at: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy.

    Attributes:
        version: major and minor number of the language.
        sections: as they stood in the text, each kind at most once.
        notes: remarks for the author; no part of the meaning.
    """

    version: tuple[int, int]
    sections: tuple[Section, ...] = ()
    notes: tuple[Note, ...] = field(default=(), compare=False)

    def rules(self, kind: SectionKind) -> tuple[Rule, ...]:
        """The rules of one section, none when the section is absent."""
        return next((section.rules for section in self.sections if section.kind is kind), ())
