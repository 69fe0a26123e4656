"""Hashing beside other work: on two cores a stream is unpacked and hashed at the same time.

hashlib lets other threads run while it hashes a large piece. It pays for layers of images, where unpacking takes
longest. Measuring an enclave does not use it: its records are written and hashed within one core's cache, and handing
them to another core was measured to cost more than it gives (40 % of the bound beside 70 %).
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self

_SMALLEST = 16 * 1024
"""Bytes of a piece that is worth handing over: waking a thread takes about as long as hashing so many."""

_kept: Final[list[ThreadPoolExecutor]] = []
"""Threads that wait to hash, in a process that starts none later."""


def keep_threads(count: int) -> None:
    """Start so many threads now, and use them over and over: for a process that gives up the right to start any."""
    for _ in range(count):
        pool = ThreadPoolExecutor(1)
        pool.submit(int).result()
        _kept.append(pool)


class Hasher(Protocol):
    """A running SHA-256, such as ``hashlib.sha256()``, or one that hashes beside other work."""

    def update(self, piece: bytes | memoryview, /) -> None:
        """Hash ``piece`` next; it stays as it is until ``update`` or ``digest`` is called once more."""

    def digest(self) -> bytes:
        """The digest of all pieces so far."""


class BackgroundHash:
    """A hash state that is fed by a thread of its own: the same bytes in the same order.

    At most one piece is in flight, so memory stays bounded: a piece must not change until ``update`` or ``digest`` is
    called once more. The thread ends with the ``with`` block, however that ends (one that is kept is free for others);
    after it, pieces are hashed at once.
    """

    def __init__(self, state: Hasher) -> None:
        self._state = state
        self._is_kept = bool(_kept)
        # A new thread starts with the first piece.
        self._pool: ThreadPoolExecutor | None = _kept.pop() if self._is_kept else ThreadPoolExecutor(1)
        self._in_flight: Future[object] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._is_kept:
            with suppress(Exception):  # as with a thread that ends: what the last piece met is not asked for any more
                self._wait()
            _kept.append(pool)
        else:
            pool.shutdown(cancel_futures=kind is not None)

    def update(self, piece: bytes | memoryview) -> None:
        """Hash ``piece`` next. Raises what hashing the piece before it raised."""
        self._wait()
        if self._pool is None or len(piece) < _SMALLEST:
            self._state.update(piece)
        else:
            self._in_flight = self._pool.submit(self._state.update, piece)

    def digest(self) -> bytes:
        """The digest of all pieces so far."""
        self._wait()
        return self._state.digest()

    def _wait(self) -> None:
        if self._in_flight is not None:
            self._in_flight.result()
            self._in_flight = None
