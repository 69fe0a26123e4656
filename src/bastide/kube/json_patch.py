"""JSON patch: changes that were made to a copy of a tree, as operations on the original.

Source: RFC 6902 (JSON Patch), RFC 6901 section 3 (``~`` is ``~0``, ``/`` is ``~1``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bastide.pods.edit import Change
from bastide.pods.tree import Path


class Op(StrEnum):
    """The operations in use."""

    TEST = "test"
    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; ``value`` means nothing to ``remove``."""

    op: Op
    path: Path
    value: object = None

    def build(self) -> dict[str, object]:
        """As it stands in the patch's JSON."""
        built: dict[str, object] = {"op": str(self.op), "path": pointer(self.path)}
        if self.op is not Op.REMOVE:
            built["value"] = self.value
        return built


def pointer(path: Path) -> str:
    """A JSON pointer: each step after a ``/``."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def operations_of(original: object, changes: Sequence[Change]) -> tuple[Operation, ...]:
    """The patch that makes ``changes`` to ``original``.

    What is replaced or removed is tested first, so that nothing else is changed than what was looked at. Parents that
    are absent (or null) are made. ``original`` is not touched.
    """
    made: set[Path] = set()
    operations: list[Operation] = []
    for change in changes:
        for length in range(1, len(change.path)):
            parent = change.path[:length]
            if parent not in made and _absent(original, parent):
                empty: object = [] if isinstance(change.path[length], int) else {}
                operations.append(Operation(op=Op.ADD, path=parent, value=empty))
                made.add(parent)
        operations += _operations(change)
        made.add(change.path)
    return tuple(operations)


def _operations(change: Change) -> list[Operation]:
    path = change.path
    if change.before is None:
        return [Operation(op=Op.ADD, path=path, value=change.after)]
    test = Operation(op=Op.TEST, path=path, value=change.before)
    if change.after is None:
        return [test, Operation(op=Op.REMOVE, path=path)]
    return [test, Operation(op=Op.REPLACE, path=path, value=change.after)]


def _absent(tree: object, path: Path) -> bool:
    """Whether nothing, or null, stands at ``path`` of the original."""
    for step in path:
        if isinstance(tree, dict):
            tree = tree.get(str(step))
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        else:
            return True
    return tree is None
