"""YAML (and so JSON) text to trees that remember their lines, within fixed budgets.

PyYAML's parser events drive a composer of our own: PyYAML's composer recurses in C, expands aliases without limit and
takes the last of duplicate keys silently. Scalars: see ``yaml_scalars``.

Public API: ``decode(raw, name)``, ``compose(text, name) -> Iterator[Node]``, ``Node``.

Source: YAML 1.1 sections 10.2 and "Merge Key Language-Independent Type"; Kubernetes sigs.k8s.io/yaml (key conversion).
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from yaml.reader import Reader

from bastide.errors import MalformedError
from bastide.pods.tree import Path
from bastide.pods.yaml_scalars import TAG_PREFIX, TAGS, Scalar, implicit_tag, typed

MAX_BYTES: Final = 4 << 20
"""Bytes of one file. The Kubernetes API takes 3 MiB per request."""
MAX_DEPTH: Final = 64
"""Levels of nesting, aliases included."""
MAX_NODES: Final = 400_000
"""Nodes of one file after aliases are written out: this is what stops YAML bombs."""
MAX_DOCUMENTS: Final = 1000
"""Documents of one file."""

_LONGEST_SHOWN: Final = 60
_SPLIT: Final = "split the file"
_QUOTE_KEY: Final = "put the key in quotes if it is text"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of a YAML document.

    Attributes:
        line: 1-based line where the node begins; of a mapping's entry, the line of its key.
        content: a scalar, the items of a list, or the entries of a mapping in order.
        quoted: whether a scalar stands in quotes (or is a block text).
        size: nodes in this tree with aliases written out.
        height: levels below this node; 0 for a scalar.
    """

    line: int
    content: "Scalar | tuple[Node, ...] | dict[str, Node]"
    quoted: bool = False
    size: int = 1
    height: int = 0

    def value(self) -> object:
        """The plain tree. Every call and every alias gives fresh lists and mappings, safe to change."""
        if isinstance(self.content, tuple):
            return [item.value() for item in self.content]
        if isinstance(self.content, dict):
            return {key: entry.value() for key, entry in self.content.items()}
        return self.content

    def at(self, path: Path) -> "Node | None":
        """The node at ``path``, or ``None`` where there is none."""
        node = self
        for step in path:
            content = node.content
            child = None
            if isinstance(content, dict) and isinstance(step, str):
                child = content.get(step)
            elif isinstance(content, tuple) and isinstance(step, int) and 0 <= step < len(content):
                child = content[step]
            if child is None:
                return None
            node = child
        return node


def decode(raw: bytes, name: str) -> str:
    """The text of a file: UTF-8, or UTF-16 that begins with a byte order mark (as kubectl reads them).

    Raises:
        MalformedError: ``manifest.too-large`` (over ``MAX_BYTES``), ``manifest.encoding`` (not UTF-8, no text).
    """
    if len(raw) > MAX_BYTES:
        raise MalformedError(
            "manifest.too-large",
            f"expected at most {MAX_BYTES >> 20} MiB, the file has {len(raw) / (1 << 20):.1f} MiB",
            hint="split the file",
            where=name,
        )
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _encoding_error(
            name, line, f"byte 0x{raw[error.start]:02x} is not {error.encoding.upper()} text"
        ) from None
    control = Reader.NON_PRINTABLE.search(text)
    if control is not None:
        line = text.count("\n", 0, control.start()) + 1
        raise _encoding_error(name, line, f"control character U+{ord(control.group()):04X} is not YAML text")
    return text


def _encoding(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _encoding_error(name: str, line: int, message: str) -> MalformedError:
    return MalformedError("manifest.encoding", message, hint="save the file as UTF-8", where=f"{name}:{line}")


def compose(text: str, name: str) -> Iterator[Node]:
    """The root nodes of the documents of ``text``, in order.

    JSON is read as the YAML that it is: a character beyond U+FFFF must stand as itself, not as two ``\\u`` escapes.

    Raises:
        MalformedError: ``manifest.yaml`` (syntax), ``manifest.duplicate-key``, ``manifest.key`` (a key that is no
            text), ``manifest.scalar`` (a number that cannot be read), ``manifest.tag``, ``manifest.alias``,
            ``manifest.merge``, ``manifest.too-deep``, ``manifest.too-many-nodes``, ``manifest.too-many-documents``.
    """
    composer = _Composer(name)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, DocumentStartEvent):
                composer.begin(event)
            elif isinstance(event, NodeEvent):
                composer.take(event)
            elif isinstance(event, CollectionEndEvent):
                composer.leave()
            elif isinstance(event, DocumentEndEvent):
                yield composer.end()
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from None


def _syntax_error(error: yaml.YAMLError, name: str) -> MalformedError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or "unreadable text"
    return MalformedError(
        "manifest.yaml",
        f"not YAML: {problem}",
        hint="check the indentation and the quotes near this line",
        where=f"{name}:{mark.line + 1 if mark is not None else 1}",
    )


@dataclass(slots=True, kw_only=True)
class _Frame:
    """A list or mapping that is still open; ``key`` and ``merging`` tell what a mapping's next node belongs to."""

    line: int
    anchor: str | None
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    merged: dict[str, Node] | None = None
    key: str | None = None
    key_line: int = 0
    merging: bool = False

    def close(self) -> Node:
        content: tuple[Node, ...] | dict[str, Node] = tuple(self.items)
        if self.is_mapping:
            content = {**(self.merged or {}), **self.entries}
        children = content.values() if isinstance(content, dict) else content
        return Node(
            line=self.line,
            content=content,
            size=1 + sum(child.size for child in children),
            height=1 + max((child.height for child in children), default=0),
        )


class _Composer:
    """Builds nodes from parser events on a stack of its own: no recursion on the depth of the input."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._documents = 0
        self._nodes = 0

    def begin(self, event: DocumentStartEvent) -> None:
        """A document starts; anchors end with their document."""
        self._documents += 1
        if self._documents > MAX_DOCUMENTS:
            raise self._error(_line(event), "too-many-documents", f"more than {MAX_DOCUMENTS} documents", _SPLIT)
        self._anchors.clear()
        self._root = None

    def end(self) -> Node:
        """The document that just ended."""
        if self._root is None:
            raise self._error(1, "yaml", "a document without content", _SPLIT)
        return self._root

    def take(self, event: NodeEvent) -> None:
        """A scalar, an alias, or the start of a list or mapping."""
        if isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, AliasEvent):
            self._alias(event)
        elif isinstance(event, CollectionStartEvent):
            self._enter(event)

    def leave(self) -> None:
        """A list or mapping ends."""
        frame = self._stack.pop()
        self._place(frame.close(), frame.anchor)

    def _enter(self, event: CollectionStartEvent) -> None:
        line = _line(event)
        is_mapping = isinstance(event, MappingStartEvent)
        if event.tag not in (None, "!", TAG_PREFIX + ("map" if is_mapping else "seq")):
            raise self._error(line, "tag", f"the tag {event.tag} has no meaning here", "remove the tag")
        if self._awaits_key():
            raise self._error(line, "key", "a key must be text, saw a list or mapping", _QUOTE_KEY)
        self._check_depth(line, 1)
        self._spend(line, 1)
        self._stack.append(_Frame(line=line, anchor=event.anchor, is_mapping=is_mapping))

    def _scalar(self, event: ScalarEvent) -> None:
        tag = self._tag_of(event)
        node = Node(line=_line(event), content=self._typed(event, tag), quoted=not event.implicit[0])
        if tag == "merge" and self._awaits_key():
            self._begin_merge(node.line)
        elif self._awaits_key():
            self._begin_entry(node)
            self._remember(event.anchor, node)
        else:
            self._spend(node.line, 1)
            self._place(node, event.anchor)

    def _alias(self, event: AliasEvent) -> None:
        line = _line(event)
        target = self._anchors.get(event.anchor or "")
        if target is None:
            message = f"*{event.anchor} names no anchor that is complete at this place"
            raise self._error(line, "alias", message, "put the anchor first, and never inside of what it names")
        node = replace(target, line=line)
        if self._awaits_key():
            self._begin_entry(node)
            return
        self._check_depth(line, node.height)
        self._spend(line, node.size)
        self._place(node, None)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].is_mapping and self._stack[-1].key is None

    def _begin_entry(self, node: Node) -> None:
        frame = self._stack[-1]
        key = self._key_text(node)
        if key in frame.entries:
            first = frame.entries[key].line
            message = f"the key {_shown(key)} stands twice in one mapping: line {first} and line {node.line}"
            raise self._error(node.line, "duplicate-key", message, "keep one of them")
        frame.key, frame.key_line = key, node.line

    def _begin_merge(self, line: int) -> None:
        frame = self._stack[-1]
        if frame.merged is not None:
            raise self._error(line, "duplicate-key", "the merge key << stands twice in one mapping", "write one list")
        frame.key, frame.key_line, frame.merging = "<<", line, True

    def _key_text(self, node: Node) -> str:
        """A key as the Kubernetes API gets it: JSON keys are text, so ``on`` arrives there as ``true``."""
        key = node.content
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, int):
            return str(key)
        if isinstance(key, str):
            return key
        raise self._error(node.line, "key", f"a key must be text, saw {_shown_content(node)}", _QUOTE_KEY)

    def _place(self, node: Node, anchor: str | None) -> None:
        """Put a complete node where it belongs."""
        self._remember(anchor, node)
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if frame.merging:
            self._merge(frame, node)
        elif frame.key is not None:
            frame.entries[frame.key] = replace(node, line=frame.key_line)
            frame.key = None
        else:
            frame.items.append(node)

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _merge(self, frame: _Frame, node: Node) -> None:
        """``<<``: earlier sources win over later ones, the mapping's own entries over all (``_Frame.close``)."""
        sources = node.content if isinstance(node.content, tuple) else (node,)
        merged: dict[str, Node] = {}
        for source in sources:
            if not isinstance(source.content, dict):
                raise self._error(frame.key_line, "merge", "<< merges mappings only", "name an anchor of a mapping")
            for key, entry in source.content.items():
                merged.setdefault(key, entry)
        frame.merged, frame.key, frame.merging = merged, None, False

    def _tag_of(self, event: ScalarEvent) -> str:
        """The short tag of a scalar, written out or implied."""
        if event.tag in (None, "!"):
            return implicit_tag(event.value) if event.implicit[0] else "str"
        tag = str(event.tag).removeprefix(TAG_PREFIX)
        if tag not in TAGS:
            raise self._error(_line(event), "tag", f"the tag {event.tag} has no meaning here", "remove the tag")
        return tag

    def _typed(self, event: ScalarEvent, tag: str) -> Scalar:
        try:
            return typed(event.value, tag)
        except ValueError:
            message = f"{_shown(event.value)} cannot be read as {tag}"
            raise self._error(_line(event), "scalar", message, "put it in quotes if it is text") from None

    def _check_depth(self, line: int, levels: int) -> None:
        if len(self._stack) + levels > MAX_DEPTH:
            raise self._error(line, "too-deep", f"nested deeper than {MAX_DEPTH} levels", "flatten the document")

    def _spend(self, line: int, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            message = f"more than {MAX_NODES} values once aliases are written out"
            raise self._error(line, "too-many-nodes", message, "use fewer aliases, or split the file")

    def _error(self, line: int, defect: str, message: str, hint: str) -> MalformedError:
        return MalformedError(f"manifest.{defect}", message, hint=hint, where=f"{self._name}:{line}")


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")


def _shown_content(node: Node) -> str:
    return "a list or mapping" if isinstance(node.content, tuple | dict) else repr(node.content)
