"""Changing a copy of a tree, with a record of every change."""

from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.pods.tree import Path, at, dotted

_DEEPEST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that was changed.

    Attributes:
        path: the field, from the tree's root.
        before: the value that stood there; None where there was none.
        after: the value that stands there now; None where it was removed.
        why: the reason, for people.
    """

    path: Path
    before: object
    after: object
    why: str


class Editor:
    """Holds a copy of ``tree`` that can be changed; the original and anything that shares parts of it stay as they are.

    Raises:
        MalformedError: ``pod.depth`` (nested deeper than 100, which no Kubernetes object is).
    """

    def __init__(self, tree: dict[str, object]) -> None:
        self.tree = {key: _unshared(value, 1) for key, value in tree.items()}
        self._changes: list[Change] = []

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes so far, in order."""
        return tuple(self._changes)

    def put(self, path: Path, value: object, why: str) -> None:
        """Set the field at ``path``, making the mappings that lead to it. An equal value is no change."""
        parent = self._mapping_at(path[:-1])
        key = str(path[-1])
        if key in parent and parent[key] == value:
            return
        self._changes.append(Change(path=path, before=parent.get(key), after=value, why=why))
        parent[key] = value

    def remove(self, path: Path, why: str) -> None:
        """Remove the field at ``path`` if it is there."""
        parent = at(self.tree, path[:-1])
        if isinstance(parent, dict) and path[-1] in parent:
            self._changes.append(Change(path=path, before=parent.pop(path[-1]), after=None, why=why))

    def append(self, path: Path, value: object, why: str) -> None:
        """Append to the list at ``path``, making it if it is absent."""
        parent = self._mapping_at(path[:-1])
        key = str(path[-1])
        entries = parent.get(key)
        if entries is None:
            entries = parent[key] = []
        if not isinstance(entries, list):
            raise _shape(path, "a list")
        self._changes.append(Change(path=(*path, len(entries)), before=None, after=value, why=why))
        entries.append(value)

    def _mapping_at(self, path: Path) -> dict[str, object]:
        node: object = self.tree
        for index, step in enumerate(path):
            below = at(node, (step,))
            if below is None and isinstance(node, dict):
                below = node[step] = {}
            if not isinstance(below, dict | list):
                raise _shape(path[: index + 1], "a mapping")
            node = below
        if not isinstance(node, dict):
            raise _shape(path, "a mapping")
        return node


def _shape(path: Path, expected: str) -> MalformedError:
    return MalformedError("pod.shape", f"expected {expected}", where=dotted(path))


def _unshared(value: object, depth: int) -> object:
    """A copy in which YAML's aliases are separate values, so that a change in one place stays in that place."""
    if depth > _DEEPEST:
        raise MalformedError("pod.depth", f"nested deeper than {_DEEPEST}")
    if isinstance(value, dict):
        return {key: _unshared(below, depth + 1) for key, below in value.items()}
    if isinstance(value, list):
        return [_unshared(below, depth + 1) for below in value]
    return value
