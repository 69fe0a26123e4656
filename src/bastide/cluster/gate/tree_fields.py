"""Strict reading of an object that the API server gave us: every field known, typed and bounded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from bastide.errors import MalformedError
from bastide.pods.tree import shape_of

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFields:
    """A mapping all of whose keys are known, and where it stands.

    Attributes:
        mapping: the fields.
        where: path of it from the object's root.
        code: begin of the codes of all refusals: ``CODE.field``, ``CODE.type``, ``CODE.value``, ``CODE.count``.
    """

    mapping: dict[str, object]
    where: str
    code: str

    @classmethod
    def of(cls, tree: object, where: str, code: str, known: tuple[str, ...]) -> "TreeFields":
        """``tree`` as fields.

        Raises:
            MalformedError: ``CODE.type``, ``CODE.field``.
        """
        if not isinstance(tree, dict):
            raise MalformedError(f"{code}.type", f"expected a mapping, seen {shape_of(tree)}", where=where)
        for key in tree:
            if key not in known:
                raise MalformedError(
                    f"{code}.field", f"no such field: {key!r:.80}", hint=f"known here: {', '.join(known)}", where=where
                )
        return cls(mapping=tree, where=where, code=code)

    def below(self, key: str, *known: str) -> "TreeFields | None":
        """The mapping in field ``key``; None where there is no such field."""
        if key not in self.mapping:
            return None
        return TreeFields.of(self.mapping[key], f"{self.where}.{key}", self.code, known)

    def text(self, key: str, *, longest: int, default: str | None = None) -> str:
        """A text of 1 to ``longest`` characters; ``default`` where there is no such field."""
        if key not in self.mapping and default is not None:
            return default
        value = self.mapping.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise self.refusal("type", key, f"expected text of 1 to {longest} characters, seen {shape_of(value)}")
        return value

    def number(self, key: str, *, largest: int) -> int | None:
        """A whole number from 0 to ``largest``; None where there is no such field."""
        if key not in self.mapping:
            return None
        value = self.mapping[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
            raise self.refusal("value", key, f"expected a whole number from 0 to {largest}, seen {value!r:.40}")
        return value

    def parsed(self, key: str, read: Callable[[str], _Value], expected: str, *, longest: int) -> _Value:
        """A text that ``read`` takes; its ``ValueError`` is a refusal that names what was ``expected``."""
        text = self.text(key, longest=longest)
        try:
            return read(text)
        except ValueError:
            raise self.refusal("value", key, f"expected {expected}, seen {text!r:.80}") from None

    def items(self, key: str, *, most: int) -> Iterator[tuple[object, str]]:
        """The entries of a list of at most ``most``, each with its path; none where there is no such field."""
        value = self.mapping.get(key, [])
        if not isinstance(value, list):
            raise self.refusal("type", key, f"expected a list, seen {shape_of(value)}")
        if len(value) > most:
            raise self.refusal("count", key, f"expected at most {most}, seen {len(value)}")
        for index, entry in enumerate(value):
            yield entry, f"{self.where}.{key}[{index}]"

    def texts(self, key: str, *, most: int, longest: int) -> tuple[str, ...]:
        """A list of texts."""
        found = []
        for entry, where in self.items(key, most=most):
            if not isinstance(entry, str) or not 0 < len(entry) <= longest:
                raise MalformedError(f"{self.code}.type", f"expected text of 1 to {longest} characters", where=where)
            found.append(entry)
        return tuple(found)

    def refusal(self, what: str, key: str, message: str) -> MalformedError:
        """The error about field ``key``."""
        return MalformedError(f"{self.code}.{what}", message, where=f"{self.where}.{key}")
