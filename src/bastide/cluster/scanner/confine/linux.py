"""System calls that Python has no function for.

Source: prctl(2), syscall(2), proc(5).
"""

import ctypes
import os
from pathlib import Path
from typing import Final

PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *arguments: int) -> int:
    """The result of a system call; addresses are given as numbers.

    Raises:
        OSError: as the kernel says.
    """
    result: int = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    if result < 0:
        raise _fault()
    return result


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (of this thread, where Linux keeps it there).

    Raises:
        OSError: as the kernel says.
    """
    if _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))):
        raise _fault()


def hide_memory() -> None:
    """Keep other processes of the same user from reading or steering this one.

    Its memory, environment and descriptors under ``/proc`` then belong to root, nobody but root attaches to it, and it
    leaves no core file. Source: prctl(2) "PR_SET_DUMPABLE"; ptrace(2) "Ptrace access mode checking".
    """
    prctl(PR_SET_DUMPABLE, 0)


def threads() -> int:
    """Threads of this process, those that Python does not know included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _fault() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
