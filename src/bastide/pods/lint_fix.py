"""Writing canonical names into a manifest's text: what admission would do, with comments and layout kept.

Only names and their amounts are touched, each where it stands in the text; nothing is written out anew. Before and
after have to mean the same, document by document, or nothing is changed at all.

Public API: ``rename_dialects(raw, name) -> Fixed``.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
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

from bastide.errors import MalformedError
from bastide.pods.manifest import Document, read_documents
from bastide.pods.request import Ask, sgx_request
from bastide.pods.resources import Dialect, device_count, dialect_of, epc_of
from bastide.pods.tree import Path, at, mapping
from bastide.pods.workload import workloads
from bastide.pods.yaml_reader import decode
from bastide.pods.yaml_scalars import implicit_tag
from bastide.units import format_quantity

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKS: Final = (
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_BY_HAND: Final = "rename it by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """One ask that was rewritten.

    Attributes:
        where: ``file:line``.
        before: name and amount as they stood.
        after: name and amount as they stand now.
    """

    where: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """One ask in a foreign name that was not rewritten.

    Attributes:
        where: ``file:line``.
        resource: its name.
        reason: why not.
    """

    where: str
    resource: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A manifest with canonical names.

    Attributes:
        raw: its bytes, in the encoding that it had; those that were given where nothing was changed.
        before: the text as given.
        after: the text as it is now.
        renames: what was changed, in order.
        left: what could not be changed safely.
    """

    raw: bytes
    before: str
    after: str
    renames: tuple[Rename, ...]
    left: tuple[LeftAlone, ...]


def rename_dialects(raw: bytes, name: str) -> Fixed:
    """Write ``sgx.intel.com/epc`` and ``sgx.intel.com/enclave`` for their foreign names in the pods of a manifest.

    Amounts are kept: 10 of Azure's MiB become ``10Mi``. A second run changes nothing.

    Args:
        raw: the file's bytes.
        name: how messages call the file.

    Raises:
        MalformedError: the codes of ``read_documents`` and ``workloads``.
    """
    documents = read_documents(raw, name)
    before = decode(raw, name)
    fixer = _Fixer(before, tuple(_spans(before)))
    for document in documents:
        fixer.fix(document)
    after = fixer.text()
    fixed = _encoded(after, raw)
    if fixer.renames and not _same_meaning(documents, fixed, name):
        reason = f"the file would mean something else: {_BY_HAND}"
        left = [LeftAlone(where=one.where, resource=one.before.split(":")[0], reason=reason) for one in fixer.renames]
        return Fixed(raw=raw, before=before, after=before, renames=(), left=(*fixer.left, *left))
    return Fixed(raw=fixed, before=before, after=after, renames=tuple(fixer.renames), left=tuple(fixer.left))


@dataclass(slots=True, kw_only=True)
class _Span:
    """Where a node stands in the text, and what is below it."""

    event: Event
    in_flow: bool = False
    entries: "dict[str, tuple[ScalarEvent, _Span]]" = field(default_factory=dict)
    merged: "list[_Span]" = field(default_factory=list)
    items: "list[_Span]" = field(default_factory=list)
    key: ScalarEvent | None = None

    def child(self, step: str | int) -> "tuple[ScalarEvent | None, _Span] | None":
        """The node below, with its key's event; own entries win over merged ones."""
        if isinstance(step, int):
            return (None, self.items[step]) if step < len(self.items) else None
        if step in self.entries:
            return self.entries[step]
        sources = [source for one in self.merged for source in (one.items or [one])]
        return next((found for source in sources if (found := source.child(step)) is not None), None)


def _spans(content: str) -> Iterator[_Span]:
    """The roots of the documents that are not empty. ``read_documents`` has refused all that is out of bounds."""
    stack: list[_Span] = []
    anchors: dict[str, _Span] = {}
    root: _Span | None = None
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, DocumentStartEvent):
            anchors, root = {}, None
        elif isinstance(event, CollectionEndEvent):
            root = stack.pop()
        elif isinstance(event, AliasEvent):
            _put(stack, anchors[event.anchor or ""])
        elif isinstance(event, NodeEvent):
            span = _Span(event=event, in_flow=bool(stack) and _is_flow(stack[-1].event))
            if _is_key(stack) and isinstance(event, ScalarEvent):
                stack[-1].key = event
            else:
                _put(stack, span)
            if event.anchor is not None:
                anchors[event.anchor] = span
            if isinstance(event, CollectionStartEvent):
                stack.append(span)
            elif not stack:
                root = span
        elif isinstance(event, DocumentEndEvent) and root is not None and not _is_null(root.event):
            yield root


def _is_key(stack: list[_Span]) -> bool:
    return bool(stack) and isinstance(stack[-1].event, MappingStartEvent) and stack[-1].key is None


def _put(stack: list[_Span], span: _Span) -> None:
    """Put a node where it belongs."""
    if not stack:
        return
    parent = stack[-1]
    if parent.key is None:
        parent.items.append(span)
    elif parent.key.value == "<<" and parent.key.implicit[0]:
        parent.merged.append(span)
    else:
        parent.entries[parent.key.value] = (parent.key, span)
    parent.key = None


def _is_flow(event: Event) -> bool:
    return isinstance(event, CollectionStartEvent) and bool(event.flow_style)


def _is_null(event: Event) -> bool:
    return isinstance(event, ScalarEvent) and event.implicit[0] and implicit_tag(event.value) == "null"


class _Fixer:
    """Gathers the edits of one file."""

    def __init__(self, content: str, roots: tuple[_Span, ...]) -> None:
        self.renames: list[Rename] = []
        self.left: list[LeftAlone] = []
        self._content = content
        self._roots = roots
        self._edits: dict[tuple[int, int], str] = {}

    def text(self) -> str:
        """The text with all edits."""
        pieces, end = [], 0
        for (begin, stop), replacement in sorted(self._edits.items()):
            pieces += [self._content[end:begin], replacement]
            end = stop
        return "".join([*pieces, self._content[end:]])

    def fix(self, document: Document) -> None:
        """Rewrite every foreign ask of the document's pods."""
        for workload in workloads(document):
            request = sgx_request(workload.pod)
            for container in request.containers:
                depth = len(container.path)
                is_wrong = any(problem.path[:depth] == container.path for problem in request.problems)
                for ask in container.asks:
                    dialect = dialect_of(ask.resource)
                    if dialect is None or dialect.canonical == ask.resource:
                        continue
                    path = workload.pod_path + ask.path
                    if is_wrong:
                        reason = "what the container asks is wrong as it is: see the findings about it"
                        self._leave(document, path, ask, reason)
                    else:
                        self._rewrite(document, path, ask, dialect)

    def _rewrite(self, document: Document, path: Path, ask: Ask, dialect: Dialect) -> None:
        beside = [other for other in mapping(at(document.value, path[:-1])) if other != ask.resource]
        if any((other := dialect_of(name)) and other.canonical == dialect.canonical for name in beside):
            self._leave(document, path, ask, f"{dialect.canonical} is asked beside it by another name: keep one")
            return
        place = self._place(document, path)
        if place is None:
            self._leave(document, path, ask, f"it stands behind an anchor or in an unusual form: {_BY_HAND}")
            return
        key, value = place
        amount = str(ask.quantity)
        if dialect.counts_epc:
            amount = format_quantity(epc_of(ask.resource, ask.quantity).bytes)
            try:
                epc_of(dialect.canonical, amount)
            except MalformedError as error:
                self._leave(document, path, ask, error.message)
                return
        edits = [_edit(key, dialect.canonical, self._content)]
        if dialect.counts_epc:
            edits.append(_edit(value.event, amount, self._content, quote=value.in_flow))
        if any(edit is None for edit in edits):
            self._leave(document, path, ask, f"it is written in an unusual form: {_BY_HAND}")
            return
        fresh = {edit[0]: edit[1] for edit in edits if edit is not None}
        if fresh.keys() <= self._edits.keys():
            return  # an alias of what is rewritten already
        self._edits |= fresh
        self.renames.append(
            Rename(
                where=document.where(path),
                before=f"{ask.resource}: {ask.quantity}",
                after=f"{dialect.canonical}: {amount}",
            )
        )

    def _place(self, document: Document, path: Path) -> tuple[ScalarEvent, _Span] | None:
        span, key = self._roots[document.index], None
        for step in path:
            found = span.child(step)
            if found is None:
                return None
            key, span = found
        return (key, span) if key is not None else None

    def _leave(self, document: Document, path: Path, ask: Ask, reason: str) -> None:
        self.left.append(LeftAlone(where=document.where(path), resource=ask.resource, reason=reason))


def _edit(event: Event, words: str, content: str, *, quote: bool = False) -> tuple[tuple[int, int], str] | None:
    """The replacement of one scalar, in the quotes that it has; None where the text is not what was expected.

    So an anchored value (``&a 10``) is left alone: other places show it too.
    """
    if not isinstance(event, ScalarEvent) or event.start_mark is None or event.end_mark is None:
        return None
    begin, end = event.start_mark.index, event.end_mark.index
    written = content[begin:end]
    for mark in ("", '"', "'"):
        if written == f"{mark}{event.value}{mark}":
            shown = mark or ('"' if quote else "")
            return (begin, end), f"{shown}{words}{shown}"
    return None


def _encoded(content: str, raw: bytes) -> bytes:
    """The text in the encoding of the file that it came from."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8"))
    return mark + content.encode(encoding)


def _same_meaning(before: tuple[Document, ...], fixed: bytes, name: str) -> bool:
    try:
        after = read_documents(fixed, name)
    except MalformedError:
        return False
    return [_meaning(one.value) for one in before] == [_meaning(one.value) for one in after]


def _meaning(tree: object, *, is_resources: bool = False) -> object:
    """A tree in which every ask has its canonical name and its amount as a number; elsewhere names are just names."""
    if isinstance(tree, list):
        return [_meaning(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return [
        _ask(key, value) if is_resources else (key, _meaning(value, is_resources=key in ("limits", "requests")))
        for key, value in tree.items()
    ]


def _ask(resource: str, quantity: object) -> tuple[str, object]:
    dialect = dialect_of(resource)
    if dialect is None:
        return resource, _meaning(quantity)
    try:
        amount = epc_of(resource, quantity).bytes if dialect.counts_epc else device_count(resource, quantity)
    except MalformedError:
        return resource, quantity
    return dialect.canonical, amount
