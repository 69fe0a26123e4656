"""Landlock: a process gives up files, TCP, and signals to others, but for what it names.

Each version of it handles more; what a kernel does not know stays as it was, so callers are told the version.

Source: landlock(7), landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2); linux/landlock.h.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from enum import IntFlag
from pathlib import Path
from typing import Final

from bastide.cluster.scanner.confine.linux import PR_SET_NO_NEW_PRIVS, prctl, syscall, threads

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NEWEST: Final = 6
"""The version whose rights are handled here; later ones are used as this one."""
NETWORK_SINCE: Final = 4
SIGNALS_SINCE: Final = 6

_ALL_OF_1: Final = (1 << 13) - 1
_TCP: Final = 0b11  # bind, connect
_SCOPES: Final = 0b11  # abstract unix sockets, signals


class Access(IntFlag):
    """What may be done with a file or below a folder."""

    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_LATER: Final = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
_OF_FILES: Final = Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE


def version() -> int:
    """The version of Landlock that this kernel has and that we use; 0 where it has none, or none is enabled."""
    try:
        return min(syscall(_CREATE_RULESET, 0, 0, _VERSION), _NEWEST)
    except OSError:
        return 0


def restrict(allowed: Mapping[Path, Access], *, tcp: bool) -> int:
    """Give up, for good, all files but those below ``allowed``, signals to others, and TCP unless ``tcp``.

    Args:
        allowed: what may be done below which path; paths that do not exist are passed over.
        tcp: whether TCP stays.

    Returns:
        the version in use; 0: nothing was given up.

    Raises:
        OSError: the kernel has Landlock and refuses this; or there are other threads, which would keep everything.
    """
    if threads() > 1:
        raise OSError(errno.EBUSY, "Landlock holds for one thread, and there are others")
    used, ruleset = _ruleset(version(), tcp=tcp)
    if not used:
        return 0
    try:
        for path, access in allowed.items():
            _allow(ruleset, path, access & _handled(used))
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return used


def _ruleset(newest: int, *, tcp: bool) -> tuple[int, int]:
    """Version and descriptor. Some kernels name a version and lack a part of it: then an older one is used."""
    for used in range(newest, 0, -1):
        network = _TCP if used >= NETWORK_SINCE and not tcp else 0
        scopes = _SCOPES if used >= SIGNALS_SINCE else 0
        fields = struct.pack("=QQQ", _handled(used), network, scopes)
        size = 24 if used >= SIGNALS_SINCE else 16 if used >= NETWORK_SINCE else 8
        raw = ctypes.create_string_buffer(fields, len(fields))
        with suppress(OSError):
            return used, syscall(_CREATE_RULESET, ctypes.addressof(raw), size, 0)
    if newest:
        raise OSError(errno.EINVAL, "the kernel has Landlock and takes no rules")
    return 0, -1


def _handled(used: int) -> int:
    return _ALL_OF_1 | sum(access for since, access in _LATER.items() if used >= since)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            access &= _OF_FILES
        raw = ctypes.create_string_buffer(struct.pack("=Qi", access, beneath), 12)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(raw), 0)
    finally:
        os.close(beneath)
