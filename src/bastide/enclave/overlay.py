"""The file tree that an image's layers give together, of which only what matters here is kept.

Layers are read from the lowest up, once. Kept are symbolic links (paths of later entries go through them) and the
files that someone marked; for all others it is enough to know what they replace. So memory follows the number of
links and marks, not the size of the image.

Names are resolved as runtimes do it when they unpack: parents through symbolic links that never leave the root,
the last part of a path never followed. Which links that are differs: containerd, Docker and Podman unpack a layer for
overlayfs into a folder of its own, where links of lower layers are not seen; elsewhere they unpack it over
the layers below, and follow them. Both trees can be had here; what is seen in either must be reported.

Source: OCI image-spec v1.1 "Image Layer Filesystem Changeset" (whiteouts, opaque whiteouts); path_resolution(7);
containerd ``archive.Apply`` and ``diff/apply`` (root of a layer, whiteouts of any type of entry).
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from bastide.errors import MalformedError

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
_AUFS: Final = ".wh..wh."
_MOST_LINKS_ON_A_WAY: Final = 40
"""Symbolic links that Linux follows in one path (MAXSYMLINKS)."""
_MOST_STEPS: Final = 20_000_000
"""Path parts and tree nodes that one image may make us visit."""
_MOST_NODES: Final = 400_000
_LONGEST_SHOWN: Final = 200

_Mark = TypeVar("_Mark")


class _Node(Generic[_Mark]):
    """A directory on the way to something that is kept, or the thing itself."""

    __slots__ = ("children", "layer", "mark", "target")

    def __init__(self) -> None:
        self.children: dict[str, _Node[_Mark]] = {}
        self.layer = 0
        self.mark: _Mark | None = None
        self.target: str | None = None


class Overlay(Generic[_Mark]):
    """Layers upon each other.

    All paths are as an archive writes them. The methods raise MalformedError: ``enclave.layer.path`` (``..`` in a
    path, or a whiteout of nothing), ``enclave.layer.links`` (symbolic links that go round), ``enclave.layer.work``
    (more links or steps than any real image has).

    Args:
        over_lower: whether symbolic links of lower layers are followed too.
    """

    def __init__(self, *, over_lower: bool = True) -> None:
        self._over_lower = over_lower
        self._root: _Node[_Mark] = _Node()
        self._layer = 0
        self._steps = 0
        self._nodes = 0

    def next_layer(self) -> None:
        """What follows lies in the next layer up."""
        self._layer += 1

    def put(self, path: str, mark: _Mark | None = None) -> None:
        """A file (or device) at ``path``, kept if it has a mark; or a whiteout, if its name is one."""
        parents, name = _split(path)
        if not self._whiteout(path, parents, name):
            self._replace(parents, name, mark=mark, target=None)

    def _whiteout(self, path: str, parents: list[str], name: str) -> bool:
        """Whether the name is that of a whiteout, whatever type its entry has: then it hides, and nothing is made."""
        if name == OPAQUE:
            # What is a file there stays one: runtimes differ, and what may be seen must be reported.
            folder = self._find(self._resolved(parents))
            self._hide(list(folder.children.values()) if folder is not None else [])
        elif name.startswith(WHITEOUT) and not name.startswith(_AUFS):
            hidden = self._find([*self._resolved(parents), _hidden_name(name, path)])
            self._hide([hidden] if hidden is not None else [])
        else:
            return False
        return True

    def symlink(self, path: str, target: str) -> None:
        """A symbolic link at ``path``."""
        parents, name = _split(path)
        if not self._whiteout(path, parents, name) and not name.startswith(_AUFS):
            self._replace(parents, name, mark=None, target=target)

    def hard_link(self, path: str, existing: str) -> None:
        """One more name, ``path``, for what is at ``existing``."""
        at_parents, at_name = _split(existing)
        found = self._find([*self._resolved(at_parents), at_name])
        parents, name = _split(path)
        if self._whiteout(path, parents, name) or name.startswith(_AUFS):
            return
        mark, target = (found.mark, found.target) if found is not None else (None, None)
        self._replace(parents, name, mark=mark, target=target)

    def directory(self, path: str) -> None:
        """A directory at ``path``: it joins one that is there, and replaces anything else."""
        if not path.strip("/."):
            return
        parents, name = _split(path)
        if self._whiteout(path, parents, name):
            return
        real = [*self._resolved(parents), name]
        node = self._find(real)
        if node is not None and (node.target is not None or node.mark is not None):
            self._remove(real)

    def refuse_if_there(self, path: str) -> None:
        """Refuse an entry that some runtimes replace what is at ``path`` by, and others pass over."""
        parents, name = _split(path)
        if name.startswith(WHITEOUT) or self._find([*self._resolved(parents), name]) is not None:
            message = f"a global header in the place of a file: {path[:_LONGEST_SHOWN]!r}"
            raise MalformedError(
                "enclave.layer.path", message, hint="no image builder writes it: do not trust this image"
            )

    def marks(self) -> Iterator[tuple[str, _Mark]]:
        """Path from the root (without ``/`` in front) and mark of what was marked and is seen in the end, in order.

        Files that AUFS kept for hard links (``.wh..wh.plnk``) are among them: runtimes tell by the last part of a path
        alone which of them a link means.
        """
        pending = [("", self._root)]
        while pending:
            path, node = pending.pop()
            if node.mark is not None:
                yield path, node.mark
            below = [(f"{path}/{name}" if path else name, child) for name, child in node.children.items()]
            pending += sorted(below, reverse=True, key=lambda entry: entry[0])

    def _resolved(self, parts: list[str]) -> list[str]:
        """The real directory that ``parts`` name, through symbolic links, never above the root."""
        real: list[str] = []
        nodes: list[_Node[_Mark] | None] = [self._root]
        pending = parts[::-1]
        followed = 0
        while pending:
            if nodes[-1] is None and not followed:
                return real + pending[::-1]  # nothing that we know lies here, and names of entries have no ".."
            part = pending.pop()
            self._count(1)
            if part == "..":
                if real:
                    real.pop()
                    nodes.pop()
                continue
            node = nodes[-1].children.get(part) if nodes[-1] is not None else None
            if node is None or node.target is None or not (self._over_lower or node.layer == self._layer):
                real.append(part)
                nodes.append(node)
                continue
            followed += 1
            if followed > _MOST_LINKS_ON_A_WAY:
                shown = "/".join(parts)[:_LONGEST_SHOWN]
                raise MalformedError("enclave.layer.links", f"symbolic links go round at {shown!r}")
            if node.target.startswith("/"):
                real, nodes = [], [self._root]
            pending += [step for step in reversed(node.target.split("/")) if step not in ("", ".")]
        return real

    def _replace(self, parents: list[str], name: str, *, mark: _Mark | None, target: str | None) -> None:
        real = [*self._resolved(parents), name]
        self._remove(real)
        if mark is None and target is None:
            return
        node = self._root
        for part in real:
            if part not in node.children:
                self._nodes += 1
                if self._nodes > _MOST_NODES:
                    raise _too_much(f"expected at most {_MOST_NODES} links and enclaves in one image")
                node.children[part] = _Node()
            node = node.children[part]
            node.mark = node.target = None  # a file on the way would have to be a directory
        node.mark, node.target, node.layer = mark, target, self._layer

    def _find(self, real: list[str]) -> _Node[_Mark] | None:
        node = self._root
        self._count(len(real))
        for part in real:
            child = node.children.get(part)
            if child is None:
                return None
            node = child
        return node

    def _remove(self, real: list[str]) -> None:
        parent = self._find(real[:-1])
        if parent is not None:
            parent.children.pop(real[-1], None)

    def _hide(self, pending: list[_Node[_Mark]]) -> None:
        """Hide what lower layers have at and below some nodes; a whiteout never hides files of its own layer."""
        while pending:
            node = pending.pop()
            self._count(1)
            pending += node.children.values()
            if node.layer < self._layer:
                node.mark = node.target = None

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise _too_much("the paths and whiteouts of this image take too long to follow")


def _split(path: str) -> tuple[list[str], str]:
    """Directory parts and name; ``.`` and empty parts dropped.

    ``..`` is refused and not resolved: no image builder writes it, and readers differ over what it means.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise MalformedError(
            "enclave.layer.path",
            f"expected the path of a file inside the image, seen {path[:_LONGEST_SHOWN]!r}",
            hint="such paths try to leave the folder that the layer is unpacked to: do not trust this image",
        )
    return parts[:-1], parts[-1]


def _hidden_name(name: str, path: str) -> str:
    hidden = name.removeprefix(WHITEOUT)
    if hidden in ("", ".", ".."):
        raise MalformedError("enclave.layer.path", f"a whiteout of nothing: {path[:_LONGEST_SHOWN]!r}")
    return hidden


def _too_much(message: str) -> MalformedError:
    return MalformedError("enclave.layer.work", message, hint="no real image is like this: do not trust it")
