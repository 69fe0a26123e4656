"""Kubernetes manifests: the bytes of a file in, documents with line numbers out.

Public API: ``read_documents(raw, name) -> tuple[Document, ...]`` and, for YAML that need not be Kubernetes (Helm
values), ``read_nodes(raw, name) -> tuple[Node, ...]``.

Every refusal is one ``MalformedError`` whose ``where`` is ``file:line`` and whose code begins with ``manifest.``.
"""

import re
from dataclasses import dataclass
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.tree import Path, shape_of, text
from bastide.pods.yaml_reader import Node, compose, decode

_DIAGNOSED: Final = ("manifest.yaml", "manifest.key", "manifest.duplicate-key", "manifest.tag", "manifest.alias")
_TAB: Final = re.compile(r" *\t")
_TEMPLATE: Final = re.compile(r"\{\{|\{%")
_SPACED_TAG: Final = re.compile(
    r"^(?:[ \t]*-)?[ \t]*image:[ \t]+([^\s'\"#]+):[ \t]+(\w[\w.-]{0,127})[ \t]*(?:#.*)?\r?$", re.MULTILINE
)
_INDENTED: Final = re.compile(r"^[ \t]+[^\s#]", re.MULTILINE)
_BARE_PARENT: Final = re.compile(r"^(?:metadata|spec):[ \t]*(?:#.*)?\r?\n(?=\w)", re.MULTILINE)
_WANTED: Final = "give a Kubernetes manifest with apiVersion and kind (Helm values: render the chart with them first)"
_LONGEST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One Kubernetes object of a manifest.

    Attributes:
        value: the tree as the Kubernetes API would get it (JSON types, text keys); read it, copy before a change.
        name: the file's name, for messages.
        index: 0-based place among the file's documents that are not empty.
        kind: such as ``Job``.
        api_version: such as ``batch/v1``.
        node: the same tree with lines.
    """

    value: dict[str, object]
    name: str
    index: int
    kind: str
    api_version: str
    node: Node

    def line_of(self, path: Path) -> int | None:
        """1-based line of the value at ``path`` (a mapping's entry: of its key), ``None`` where there is none."""
        node = self.node.at(path)
        return node.line if node is not None else None

    def where(self, path: Path = ()) -> str:
        """``file:line`` of ``path``, or of the nearest parent that is written."""
        for length in range(len(path), -1, -1):
            line = self.line_of(path[:length])
            if line is not None:
                return f"{self.name}:{line}"
        return self.name

    def is_quoted(self, path: Path) -> bool:
        """Whether the scalar at ``path`` stands in quotes."""
        node = self.node.at(path)
        return node is not None and node.quoted


def read_documents(raw: bytes, name: str) -> tuple[Document, ...]:
    """The Kubernetes objects of one file, YAML or JSON; empty documents are passed over, as kubectl does.

    Args:
        raw: the file's bytes, at most 4 MiB.
        name: how messages call the file.

    Raises:
        MalformedError: ``manifest.empty``, ``manifest.not-kubernetes``, and all codes of ``read_nodes``.
    """
    nodes = read_nodes(raw, name)
    return tuple(_document(node, name, index) for index, node in enumerate(nodes))


def read_nodes(raw: bytes, name: str) -> tuple[Node, ...]:
    """The documents of a YAML or JSON file, whatever they are about, at least one.

    Raises:
        MalformedError: ``manifest.empty``; ``manifest.too-large`` and ``manifest.encoding`` (``yaml_reader.decode``);
            ``manifest.template`` (a Helm, Jinja or Go template); ``manifest.image-space`` (a space in an image tag);
            ``manifest.flattened`` (the indentation is lost); else the codes of ``yaml_reader.compose``.
    """
    content = decode(raw, name)
    try:
        nodes = tuple(node for node in compose(content, name) if node.content is not None)
    except MalformedError as error:
        raise _diagnose(content, name, error) from None
    if not nodes:
        raise MalformedError("manifest.empty", "the file holds no document", hint=_WANTED, where=name)
    flattened = _flattened_error(content, name)  # a text that lost its indentation can still be YAML
    if flattened is not None:
        raise flattened
    return nodes


def _document(node: Node, name: str, index: int) -> Document:
    value = node.value()
    if not isinstance(value, dict):
        raise _not_kubernetes(node, name, f"expected a mapping with apiVersion and kind, saw {shape_of(value)}")
    for key in ("apiVersion", "kind"):
        if not text(value.get(key)):
            raise _not_kubernetes(node, name, f"expected text for {key}, saw {shape_of(value.get(key))}")
    return Document(
        value=value,
        name=name,
        index=index,
        kind=text(value["kind"]),
        api_version=text(value["apiVersion"]),
        node=node,
    )


def _not_kubernetes(node: Node, name: str, message: str) -> MalformedError:
    return MalformedError("manifest.not-kubernetes", message, hint=_WANTED, where=f"{name}:{node.line}")


def _diagnose(content: str, name: str, error: MalformedError) -> MalformedError:
    """What the text shows that helps more than the parser's words; ``error`` itself where it shows nothing."""
    if error.code not in _DIAGNOSED:
        return error
    line = int((error.where or "").rpartition(":")[2])
    lines = ["", *content.splitlines(), ""][: line + 1]
    failing = lines[-1]
    template = _template_line(lines)
    if template is not None:
        return _template_error(name, template, lines[template])
    flattened = _flattened_error(content, name)
    spaced = _SPACED_TAG.search(content if flattened is not None else failing)
    if spaced is not None:
        at_line = line if flattened is None else _line_at(content, spaced.start(1))
        return _spaced_tag_error(spaced, f"{name}:{at_line}", is_flattened=flattened is not None)
    if _TAB.match(failing):
        error.hint = "indent with spaces: YAML takes no tabs"
    return flattened or error


def _template_line(lines: list[str]) -> int | None:
    """Which line of a template YAML fails on: the last of ``lines``, or above it one that is a template action only."""
    if _TEMPLATE.search(lines[-1]):
        return len(lines) - 1
    above = next((number for number in range(len(lines) - 2, 0, -1) if lines[number].strip()), 0)
    return above if _TEMPLATE.match(lines[above].strip()) else None


def _template_error(name: str, line: int, failing: str) -> MalformedError:
    return MalformedError(
        "manifest.template",
        f"this is a template, not YAML: {failing.strip()[:_LONGEST_SHOWN]}",
        hint="render it first (helm template, kustomize build, envsubst) and give the result",
        where=f"{name}:{line}",
    )


def _spaced_tag_error(spaced: re.Match[str], where: str, *, is_flattened: bool) -> MalformedError:
    hint = f"write image: {spaced[1]}:{spaced[2]}"
    if is_flattened:
        hint += "; then indent each level by two spaces: every line begins at the margin"
    message = "not YAML: a space stands before the image's tag"
    return MalformedError("manifest.image-space", message, hint=hint, where=where)


def _flattened_error(content: str, name: str) -> MalformedError | None:
    parent = _BARE_PARENT.search(content)
    if parent is None or _INDENTED.search(content) is not None:
        return None
    return MalformedError(
        "manifest.flattened",
        "no line is indented: what belongs below metadata and spec stands beside them",
        hint="indent each level by two spaces",
        where=f"{name}:{_line_at(content, parent.start())}",
    )


def _line_at(content: str, position: int) -> int:
    return content.count("\n", 0, position) + 1
