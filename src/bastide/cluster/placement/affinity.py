"""Node affinity, required and preferred: terms of label and field requirements.

Source: Kubernetes documentation, "Assigning Pods to Nodes"; k8s.io/api/core/v1 ``NodeSelector``;
k8s.io/apimachinery labels.Requirement for what each operator does with an absent label.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bastide.cluster.placement.fields import list_at, mapping_at, text_at
from bastide.errors import MalformedError
from bastide.pods.tree import Path, dotted

_DIGITS = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NAME_FIELD = "metadata.name"
_HEAVIEST = 100


class Operator(StrEnum):
    """How a requirement compares the label's value."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One comparison. In, Exists, Gt and Lt want the label there; NotIn and DoesNotExist are content without it."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels (or fields) fulfil the comparison."""
        seen = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return seen in self.values
            case Operator.NOT_IN:
                return seen not in self.values
            case Operator.EXISTS:
                return seen is not None
            case Operator.DOES_NOT_EXIST:
                return seen is None
            case Operator.GT | Operator.LT:
                return self._compares(seen)

    @property
    def is_whole(self) -> bool:
        """Whether Gt and Lt have a number to compare with; the API server takes any text, which then never matches."""
        return self.operator not in (Operator.GT, Operator.LT) or _is_int64(self.values[0])

    def _compares(self, seen: str | None) -> bool:
        if seen is None or not _is_int64(seen) or not self.is_whole:
            return False
        label, bound = int(seen), int(self.values[0])
        return label > bound if self.operator is Operator.GT else label < bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Requirements of which all must hold; a term without any matches no node."""

    expressions: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node of that name and those labels fulfils the term."""
        if not self.expressions and not self.fields:
            return False
        return all(one.matches(labels) for one in self.expressions) and all(
            one.matches({_NAME_FIELD: name}) for one in self.fields
        )

    @property
    def node_names(self) -> frozenset[str] | None:
        """The nodes that the term names (each ``In`` names one); None where it names none."""
        named = [frozenset(one.values) for one in self.fields if one.operator is Operator.IN]
        return frozenset.intersection(*named) if named else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A preferred term and what it weighs, 1 to 100."""

    weight: int
    term: Term


def named_nodes(terms: tuple[Term, ...] | None) -> frozenset[str] | None:
    """The only nodes that can match, where every term names its nodes; else None.

    Source: kube-scheduler, plugin NodeAffinity, PreFilter.
    """
    names = [term.node_names for term in terms or ()]
    named = [one for one in names if one is not None]
    return frozenset().union(*named) if named and len(named) == len(names) else None


def required_terms(raw: object, path: Path = ()) -> tuple[Term, ...]:
    """Read ``requiredDuringSchedulingIgnoredDuringExecution``: terms of which one must match.

    Raises:
        MalformedError: ``cluster.pod.shape``, ``cluster.affinity.terms`` (none given), ``cluster.affinity.operator``,
            ``cluster.affinity.values`` (too few or too many),
            ``cluster.affinity.field`` (a field other than ``metadata.name``).
    """
    at = (*path, "nodeSelectorTerms")
    terms = list_at(mapping_at(raw, path).get("nodeSelectorTerms"), at)
    if not terms:
        raise _refusal("terms", "required node affinity needs at least one term", at)
    return tuple(_term(term, (*at, index)) for index, term in enumerate(terms))


def preferences(raw: object, path: Path = ()) -> tuple[Preference, ...]:
    """Read ``preferredDuringSchedulingIgnoredDuringExecution``: weighted terms; an empty one matches no node.

    Raises:
        MalformedError: as for required terms; ``cluster.affinity.weight`` (not 1 to 100); ``cluster.affinity.values``
            also for Gt and Lt without a number, with which kube-scheduler cannot score.
    """
    return tuple(_preference(one, (*path, index)) for index, one in enumerate(list_at(raw, path)))


def _preference(raw: object, path: Path) -> Preference:
    fields = mapping_at(raw, path)
    weight = fields.get("weight")
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= _HEAVIEST:
        raise _refusal("weight", f"expected a weight from 1 to {_HEAVIEST}, saw {weight!r:.60}", (*path, "weight"))
    term = _term(fields.get("preference"), (*path, "preference"))
    for one in term.expressions:
        if not one.is_whole:
            raise _refusal("values", f"{one.operator} takes a whole number, saw {one.values[0]!r:.60}", path)
    return Preference(weight=weight, term=term)


def _term(raw: object, path: Path) -> Term:
    fields = mapping_at(raw, path)
    expressions = _requirements(fields.get("matchExpressions"), (*path, "matchExpressions"))
    on_fields = _requirements(fields.get("matchFields"), (*path, "matchFields"))
    for one in on_fields:
        if one.key != _NAME_FIELD:
            raise _refusal("field", f"expected {_NAME_FIELD}, saw {one.key!r}", (*path, "matchFields"))
        if one.operator not in (Operator.IN, Operator.NOT_IN):
            raise _refusal("operator", f"fields take In or NotIn, saw {one.operator}", (*path, "matchFields"))
        if len(one.values) != 1:
            raise _refusal("values", f"fields take one value, saw {len(one.values)}", (*path, "matchFields"))
    return Term(expressions=expressions, fields=on_fields)


def _requirements(raw: object, path: Path) -> tuple[Requirement, ...]:
    return tuple(_requirement(one, (*path, index)) for index, one in enumerate(list_at(raw, path)))


def _requirement(raw: object, path: Path) -> Requirement:
    fields = mapping_at(raw, path)
    name = text_at(fields.get("operator"), (*path, "operator"))
    if name not in tuple(Operator):
        raise _refusal("operator", f"expected {', '.join(Operator)}, saw {name!r}", path)
    operator = Operator(name)
    at = (*path, "values")
    values = tuple(text_at(value, (*at, index)) for index, value in enumerate(list_at(fields.get("values"), at)))
    _check_values(operator, values, at)
    return Requirement(key=text_at(fields.get("key"), (*path, "key")), operator=operator, values=values)


def _check_values(operator: Operator, values: tuple[str, ...], path: Path) -> None:
    match operator:
        case Operator.IN | Operator.NOT_IN:
            wrong = "at least one value" if not values else ""
        case Operator.EXISTS | Operator.DOES_NOT_EXIST:
            wrong = "no value" if values else ""
        case Operator.GT | Operator.LT:
            wrong = "" if len(values) == 1 else "one whole number"
    if wrong:
        raise _refusal("values", f"{operator} takes {wrong}, saw {list(values)[:3]}", path)


def _is_int64(text: str) -> bool:
    return _DIGITS.fullmatch(text) is not None and -(1 << 63) <= int(text) < 1 << 63


def _refusal(what: str, message: str, path: Path) -> MalformedError:
    hint = "see `kubectl explain pod.spec.affinity.nodeAffinity`"
    return MalformedError(f"cluster.affinity.{what}", message, hint=hint, where=dotted(path))
