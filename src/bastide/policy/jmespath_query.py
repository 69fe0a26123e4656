"""JMESPath within bounds: size, nesting, and a budget of steps. There is no clock.

The library's own parser and interpreter do the work; around them stands what they lack. Every node visited costs a
step, every list that a node yields costs its length, and every value that is compared, handed to a function or built
anew costs its size, counted as a tree: so nothing that shares parts of itself can grow without paying.

Source: JMESPath Specification (jmespath.org); function ``equals_ignore_case`` as in Azure Attestation's sample
policies, where no specification names it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeAlias, cast

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter

from bastide.errors import MalformedError
from bastide.policy.json_value import Json, read_json, write_json

LONGEST_QUERY = 4096
"""Most characters of a query."""

MOST_NESTING = 64
"""Most brackets, projections and prefix operators of a query, and most levels of its tree."""

_CHARACTERS_PER_STEP = 64
_TOKENS = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`|[(\[{*!]|&&|&""", re.DOTALL)
_SYNTAX = "policy.jmespath.syntax"
# What the library's functions raise on values that they do not expect.
_FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)

Spend = Callable[[int], None]
# A node of the library's tree: this file is its adapter, and the library gives the type no public name.
_Node: TypeAlias = Any


def check_query(query: str) -> None:
    """Refuse a query that could never be evaluated.

    Raises:
        MalformedError: ``policy.jmespath.size``, ``policy.jmespath.depth``, ``policy.jmespath.literal``,
            ``policy.jmespath.syntax``, ``policy.jmespath.function``.
    """
    _parse(query)


def search(document: str, query: str, spend: Spend) -> str:
    """The result of ``query`` on the JSON text ``document``, as JSON text; ``null`` when nothing matches.

    Args:
        document: JSON text.
        query: JMESPath expression.
        spend: takes steps from the evaluation's budget, and raises when they are used up.

    Raises:
        MalformedError: those of ``check_query`` and of ``read_json``; ``policy.jmespath.evaluation``.
    """
    spend(1 + (len(document) + len(query)) // _CHARACTERS_PER_STEP)
    tree, value = _parse(query), read_json(document)
    try:
        result = cast("Json", _Interpreter(spend).visit(tree, value))  # or what write_json refuses
    except _FAULTS as fault:
        message = f"the query {query[:80]!r} fails on this JSON: {_sentence(fault)}"
        raise MalformedError("policy.jmespath.evaluation", message) from None
    _charge(result, spend)
    return write_json(result)


def _parse(query: str) -> _Node:
    """The tree of a query; the library keeps those of the last 512."""
    if len(query) > LONGEST_QUERY:
        message = f"a query has at most {LONGEST_QUERY} characters, this one has {len(query)}"
        raise MalformedError("policy.jmespath.size", message)
    _check_tokens(query)
    try:
        tree: _Node = jmespath.compile(query).parsed
    except (JMESPathError, *_FAULTS) as fault:
        raise MalformedError(_SYNTAX, f"{query[:80]!r} is no JMESPath query: {_sentence(fault)}") from None
    for node, depth in _nodes(tree):
        if depth > MOST_NESTING:
            _too_deep()
        name = node.get("value")
        if node.get("type") == "function_expression" and name not in _Functions.FUNCTION_TABLE:
            raise MalformedError("policy.jmespath.function", f"JMESPath has no function {str(name)[:40]}()")
    return tree


def _check_tokens(query: str) -> None:
    """Bound what the library's parser recurses on, and refuse literals that it would only warn of."""
    nesting = 0
    for token in _TOKENS.findall(query):
        if token.startswith("`"):
            _check_literal(token)
        nesting += token in ("(", "[", "{", "*", "!", "&")
    if nesting > MOST_NESTING:
        _too_deep()


def _check_literal(token: str) -> None:
    try:
        read_json(token[1:-1].replace("\\`", "`"))
    except MalformedError as error:
        hint = "between backquotes stands JSON, such as `1` or `\"text\"`; a string may also be written 'text'"
        raise MalformedError("policy.jmespath.literal", f"{token[:40]} holds no JSON", hint=hint) from error


def _too_deep() -> NoReturn:
    raise MalformedError("policy.jmespath.depth", f"a query nests at most {MOST_NESTING} levels")


def _nodes(tree: _Node) -> Iterator[tuple[_Node, int]]:
    """All nodes of a query's tree, each with its depth."""
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting += [(child, depth + 1) for child in node.get("children", ()) if isinstance(child, dict)]


def _charge(value: object, spend: Spend) -> None:
    """Pay for a value as a tree: one step a node, and more for long strings."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        spend(1 + (len(node) // _CHARACTERS_PER_STEP if isinstance(node, str) else 0))
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()


def _sentence(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:120] or type(fault).__name__


class _Functions(Functions):
    """The functions of JMESPath, with Azure's addition."""

    @signature({"types": []}, {"types": []})
    def _func_equals_ignore_case(self, left: object, right: object) -> bool:
        """Compare two strings without regard to the case of A to Z; false when either is no string."""
        return isinstance(left, str) and isinstance(right, str) and _lower(left) == _lower(right)


_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _lower(text: str) -> str:
    return text.translate(_UPPER_TO_LOWER)


class _PayingFunctions(_Functions):
    """The same, each call paid for by the size of its arguments."""

    def __init__(self, spend: Spend) -> None:
        self._spend = spend

    def call_function(self, function_name: str, resolved_args: Iterable[object]) -> object:
        arguments = list(resolved_args)
        _charge(arguments, self._spend)
        result: object = super().call_function(function_name, arguments)
        _charge(result, self._spend)
        return result


class _Interpreter(TreeInterpreter):
    """The library's interpreter, each node paid for."""

    _BUILDERS = ("multi_select_list", "multi_select_dict")

    def __init__(self, spend: Spend) -> None:
        super().__init__(Options(custom_functions=_PayingFunctions(spend)))
        self._spend = spend

    def visit(self, node: _Node, *args: object, **kwargs: object) -> object:
        self._spend(1)
        result: object = super().visit(node, *args, **kwargs)
        if node["type"] in self._BUILDERS:
            _charge(result, self._spend)
        elif isinstance(result, list):
            self._spend(len(result))
        return result

    def visit_comparator(self, node: _Node, value: object) -> object:
        operands = [{"type": "literal", "value": self.visit(child, value)} for child in node["children"]]
        for operand in operands:
            _charge(operand["value"], self._spend)
        comparator: _Node = {**node, "children": operands}
        return super().visit_comparator(comparator, value)
