"""The content of enclaves that were found in a layout of ours: each layer is unpacked once more, however many it holds.

Only for what ``find`` has just gone through to its end: it has compared all digests, and nobody else writes there.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from bastide.enclave.blobs import Files
from bastide.enclave.find import LARGEST_ENCLAVE
from bastide.enclave.found import Content
from bastide.enclave.layers import Limits, pieces_of, unpacked
from bastide.errors import MalformedError
from bastide.units import format_bytes

_Content = TypeVar("_Content", bound=Content)


def contents(files: Files, found: Sequence[_Content], limits: Limits) -> Iterator[tuple[_Content, bytes]]:
    """Each of ``found`` with its content, layer by layer; one content at a time is in memory.

    Args:
        files: the OCI layout in which they were found.
        found: as ``find`` gave them.
        limits: as ``find`` had them.

    Raises:
        MalformedError: ``enclave.find.size`` (over 512 MiB), ``enclave.find.changed``, those of ``unpacked``.
    """
    ordered = sorted(found, key=lambda one: (one.layer or "", _offset(one)))
    for layer, ones in groupby(ordered, key=lambda one: one.layer):
        opened = files.open(f"blobs/{layer.replace(':', '/')}") if layer is not None else None
        if layer is None or opened is None:
            raise _changed("layer")
        with opened[0] as file:
            stream = _Stream(unpacked(pieces_of(file), layer, limits))
            for _, same in groupby(ones, key=_offset):
                group = list(same)
                content = stream.at(_offset(group[0]), group[0].size)
                for one in group:
                    yield one, content


class _Stream:
    """Pieces that are read forward only."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._begins = 0

    def at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on; offsets must rise."""
        if size > LARGEST_ENCLAVE:
            message = f"expected an enclave of at most {format_bytes(LARGEST_ENCLAVE)}, seen {format_bytes(size)}"
            raise MalformedError("enclave.find.size", message)
        content = bytearray()
        while len(content) < size:
            wanted = offset + len(content) - self._begins
            if wanted >= len(self._piece):
                self._begins += len(self._piece)
                self._piece = next(self._pieces, b"")
                if not self._piece:
                    raise _changed("layer")
                continue
            content += self._piece[wanted : wanted + size - len(content)]
        return bytes(content)


def _offset(found: Content) -> int:
    return found.place[2] if found.place is not None else 0


def _changed(where: str) -> MalformedError:
    return MalformedError("enclave.find.changed", "it is not what was searched before", where=where)
