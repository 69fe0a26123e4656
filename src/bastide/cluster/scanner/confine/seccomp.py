"""A filter of system calls: a small program that the kernel runs before each of them, and that cannot be taken off.

Calls that are allowed pass, some only with certain values of one argument. Calls that only an attack makes end the
process at once, all threads of it. Whatever else fails with EPERM; calls that are younger than this filter fail with
ENOSYS, so that a C library falls back on what it did before them.

Source: seccomp(2); Linux Documentation/userspace-api/seccomp_filter.rst; linux/filter.h, linux/seccomp.h,
linux/audit.h; x86-64 ABI (the number of a call of the x32 ABI has bit 30 set).
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bastide.cluster.scanner.confine.linux import PR_SET_NO_NEW_PRIVS, prctl, syscall

_SECCOMP: Final = 317
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_ALL_THREADS: Final = 1
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_X86_64: Final = 0xC000003E
_X32: Final = 0x40000000
_YOUNGEST: Final = 470
"""Calls from this number on were not known when the lists of calls were made."""

_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06

_Step = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Only:
    """Values of one argument with which a call passes; of the argument the lower 32 bits are looked at.

    Attributes:
        argument: its place, from 0.
        values: of what ``mask`` leaves of it.
        mask: see there.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


Allowed = Mapping[int, Only | None]
"""Calls by number, those that are made most first."""


def is_available() -> bool:
    """Whether this kernel and this process can have a filter of ours."""
    if os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return False
    action = ctypes.c_uint32(_KILL_PROCESS)
    try:
        syscall(_SECCOMP, _GET_ACTION_AVAIL, 0, ctypes.addressof(action))
    except OSError:
        return False
    return True


def program(allowed: Allowed, deadly: Collection[int]) -> bytes:
    """The filter in the kernel's form (``struct sock_filter``).

    Args:
        allowed: calls that pass.
        deadly: calls that end the process.
    """
    steps = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_AT_LEAST, 0, 1, _YOUNGEST),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number, only in allowed.items():
        then = list(_judged(only)) if only is not None else [(_RETURN, 0, 0, _ALLOW)]
        steps += [(_EQUAL, 0, len(then), number), *then]
    for number in deadly:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _KILL_PROCESS)]
    steps.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def install(filter_: bytes) -> None:
    """Put a filter over all threads of this process, for good.

    Raises:
        OSError: the kernel refuses it.
    """
    steps = ctypes.create_string_buffer(filter_, len(filter_))
    whole = ctypes.create_string_buffer(struct.pack("=H6xQ", len(filter_) // 8, ctypes.addressof(steps)), 16)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if syscall(_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS, ctypes.addressof(whole)):
        raise OSError(errno.EBUSY, "a thread has another filter")


def _judged(only: Only) -> Iterator[_Step]:
    """Steps that look at one argument; each jump leads to the last of them."""
    yield (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * only.argument)
    yield (_AND, 0, 0, only.mask)
    for left, value in zip(range(len(only.values), 0, -1), only.values, strict=True):
        yield (_EQUAL, left, 0, value)
    yield (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    yield (_RETURN, 0, 0, _ALLOW)
