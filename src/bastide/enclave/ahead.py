"""Work on a stream that goes on while somebody else looks at what came before.

Decompressing and hashing leave the interpreter's lock alone, so a thread of their own lets the scan of a layer run
beside them on a second core.
"""

import threading
from collections.abc import Iterable, Iterator
from queue import Full, Queue

_DEPTH = 4
_PATIENCE = 0.1  # seconds until a full queue is looked at again


class _Stopped(Exception):  # noqa: N818 - never leaves this module
    """The reader is gone."""


def ahead(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same pieces, made up to four ahead in a thread; what goes wrong there is raised here, in its place.

    The thread ends with the generator, however that ends.
    """
    queue: Queue[bytes | BaseException | None] = Queue(_DEPTH)
    stop = threading.Event()
    thread = threading.Thread(target=_make, args=(pieces, queue, stop), name="bastide-layer", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _make(pieces: Iterable[bytes], queue: "Queue[bytes | BaseException | None]", stop: threading.Event) -> None:
    end: BaseException | None = None
    try:
        for piece in pieces:
            _put(queue, piece, stop)
    except _Stopped:
        return
    except BaseException as error:  # noqa: BLE001 - raised again on the reader's side
        end = error
    try:
        _put(queue, end, stop)
    except _Stopped:
        return


def _put(
    queue: "Queue[bytes | BaseException | None]", item: bytes | BaseException | None, stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            queue.put(item, timeout=_PATIENCE)
        except Full:
            continue
        return
    raise _Stopped
