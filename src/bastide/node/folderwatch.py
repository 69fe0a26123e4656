"""Hearing from the kernel when names come and go in folders, in place of looking again and again.

An idle agent costs what its looks cost. Where the kernel cannot tell (no inotify, its limits reached, a folder that is
missing), the waits are short instead.

Source: Linux man-pages, inotify(7).
"""

import asyncio
import ctypes
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_LOG = logging.getLogger(__name__)

DEAF_SECONDS = 0.5
"""Longest wait where the kernel does not tell of all the folders."""

_GATHER_SECONDS = 0.02
_LARGEST_READ = 64 * 1024
# moved from, moved to, created, deleted, the folder itself deleted or moved; fails for what is no folder
_MASK = 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x01000000


class FolderWatch:
    """Watches folders while its context lasts, on the running event loop; any number of tasks may wait for news.

    Args:
        folders: those to watch, asked anew at each wait: a folder that is made later is watched from then on.
    """

    def __init__(self, folders: Callable[[], Iterable[Path]]) -> None:
        self._folders = folders
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._watched: dict[Path, int] = {}
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        """Watch from now on: who looks after this misses nothing."""
        with suppress(AttributeError):  # not Linux
            self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor >= 0:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        else:
            why = os.strerror(ctypes.get_errno())
            _LOG.warning("no inotify (%s): looks are made every %s s, which costs more", why, DEAF_SECONDS)
        self._watch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the kernel forget it all."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = -1
        self._watched = {}

    async def news(self, within: float) -> None:
        """Wait until something changed, but at most ``within`` seconds: then look, whether or not something did."""
        changed = self._changed
        self._watch()
        heard = bool(self._watched) and min(self._watched.values()) >= 0
        with suppress(TimeoutError):
            async with asyncio.timeout(within if heard else min(within, DEAF_SECONDS)):
                await changed.wait()
                # Changes come in bursts: two devices of one driver, a kubelet that clears its folder.
                await asyncio.sleep(_GATHER_SECONDS)

    def _watch(self) -> None:
        """Watch the folders that there are now; the same folder watched again is no new watch."""
        if self._descriptor < 0:
            return
        watched = {
            folder: self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), ctypes.c_uint32(_MASK))
            for folder in self._folders()
        }
        if watched != self._watched:
            for gone in set(self._watched.values()) - set(watched.values()):
                self._libc.inotify_rm_watch(self._descriptor, gone)  # refused where the kernel did so by itself
            self._watched = watched
            self._tell()  # something may have changed before this folder was watched

    def _read(self) -> None:
        with suppress(OSError):
            os.read(self._descriptor, _LARGEST_READ)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
