"""Bytes written into equal places at equal distances, by one call of CPython for many places.

Measuring an enclave puts 64 bytes of record before each 256 of content. Copied place by place, that costs as much as a
third of hashing does on a processor with SHA instructions; CPython's own strided copy takes a fraction of it.

Source: Python/C API, "Buffer Protocol" (``Py_buffer``, part of the stable ABI since 3.11; ``PyBuffer_FromContiguous``).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SIMPLE: Final = 0  # PyBUF_SIMPLE: contiguous, may be read-only
_C_ORDER: Final = b"C"


class _Buffer(ctypes.Structure):
    """``Py_buffer``."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = (ctypes.POINTER(_Buffer),)
_release.restype = None
_from_contiguous = ctypes.pythonapi.PyBuffer_FromContiguous
_from_contiguous.argtypes = (ctypes.POINTER(_Buffer), ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_char)


class Slots:
    """Places of ``size`` bytes in ``block``: ``columns`` in each row, ``rows`` rows.

    Args:
        block: where they lie; it cannot be resized as long as this lives.
        start: where the first begins, bytes from the start of the block.
        size: bytes of one.
        columns: places in a row, ``column_step`` bytes from one's start to the next's.
        rows: rows, ``row_step`` bytes from one's start to the next's.

    Raises:
        ValueError: places overlap, or lie outside of the block.
    """

    def __init__(
        self, block: bytearray, *, start: int, size: int, columns: int, column_step: int, rows: int, row_step: int
    ) -> None:
        width = (columns - 1) * column_step + size
        if min(start, size - 1, columns - 1, rows - 1, column_step - size, row_step - width) < 0:
            raise ValueError("places that overlap, or none")
        if start + (rows - 1) * row_step + width > len(block):
            raise ValueError("places outside of the block")
        self._memory = (ctypes.c_char * len(block)).from_buffer(block)
        self._first = ctypes.addressof(self._memory) + start
        self._rows, self._row_step = rows, row_step
        self.row_size = columns * size
        self._view = _Buffer(
            itemsize=size,
            ndim=2,
            format=b"B",
            shape=(ctypes.c_ssize_t * 2)(rows, columns),
            strides=(ctypes.c_ssize_t * 2)(row_step, column_step),
        )

    def fill(self, row: int, source: "Source", start: int, rows: int) -> None:
        """Write ``rows`` rows of content, that of the source from ``start`` on, into the rows from ``row`` on.

        Raises:
            ValueError: more rows than there are, or than the source has content for.
        """
        length = rows * self.row_size
        if not (0 <= row <= row + rows <= self._rows and 0 <= start <= start + length <= source.size):
            raise ValueError("content outside of the places, or of its source")
        self._view.buf = self._first + row * self._row_step
        self._view.len = length
        self._view.shape[0] = rows
        _from_contiguous(self._view, source.address + start, length, _C_ORDER)


class Source:
    """Bytes to write, which stay where they are."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size

    @classmethod
    @contextmanager
    def of(cls, content: bytes | bytearray | memoryview) -> Iterator["Source"]:
        """The bytes of a contiguous object, held for as long as the context lasts; nothing is copied."""
        view = _Buffer()
        _get_buffer(content, view, _SIMPLE)
        try:
            yield cls(view.buf or 0, view.len)
        finally:
            _release(view)
