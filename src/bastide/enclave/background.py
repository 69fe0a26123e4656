"""Hashing beside other work: on two cores a stream is made ready and hashed at the same time.

hashlib lets other threads run while it hashes a large piece. One thread that does nothing but hash is enough, because
SHA-256 is the longest part of measuring an enclave and the second longest of reading an image.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from bastide.sgx.measurement import Hasher

_SMALLEST = 16 * 1024
"""Bytes of a piece that is worth handing over: waking a thread takes about as long as hashing so many."""


class BackgroundHash:
    """A hash state that is fed by a thread of its own: the same bytes in the same order.

    At most one piece is in flight, so memory stays bounded: a piece must not change until ``update`` or ``digest`` is
    called once more. The thread ends with the ``with`` block, however that ends; after it, pieces are hashed at once.
    """

    def __init__(self, state: Hasher) -> None:
        self._state = state
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1)  # the thread starts with the first piece
        self._in_flight: Future[object] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
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
