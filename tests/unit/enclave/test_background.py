import hashlib
import threading
from collections.abc import Callable

import pytest

from bastide.enclave.background import BackgroundHash
from bastide.enclave.layout import EnclaveLayout, PageRun
from bastide.sgx.secs import SecInfo
from support.enclave_files import PAGE, REG_RW

LARGE = 64 * 1024
RUN = PageRun(offset=0, secinfo=SecInfo.of_flags(REG_RW), content=b"\1\2\3\4" * (PAGE // 4) * 3000)
LAYOUT = EnclaveLayout(size=1 << 26, ssa_frame_size=1, runs=(RUN,))


class Spy:
    """A hash state that notes which thread feeds it, and may fail."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.threads: list[int] = []
        self.pieces: list[bytes] = []
        self._fault = fault

    def update(self, piece: bytes | memoryview, /) -> None:
        self.threads.append(threading.get_ident())
        self.pieces.append(bytes(piece))
        if self._fault is not None:
            raise self._fault

    def digest(self) -> bytes:
        return hashlib.sha256(b"".join(self.pieces)).digest()


def test_hashes_all_pieces_in_their_order() -> None:
    pieces = [bytes([number]) * size for number, size in enumerate((LARGE, 3, LARGE, 0, LARGE, LARGE, 7))]
    with BackgroundHash(hashlib.sha256()) as state:
        for piece in pieces:
            state.update(piece)
        assert state.digest() == hashlib.sha256(b"".join(pieces)).digest()


def test_only_large_pieces_are_worth_another_thread() -> None:
    spy = Spy()
    with BackgroundHash(spy) as state:
        state.update(b"small")
        assert threading.active_count() == 1
        state.update(bytes(LARGE))
    assert spy.threads[0] == threading.get_ident() != spy.threads[1]


def test_a_piece_is_hashed_before_the_next_update_returns() -> None:
    spy, piece = Spy(), bytearray(b"a" * LARGE)
    with BackgroundHash(spy) as state:
        state.update(memoryview(piece))
        state.update(bytes(LARGE))
        piece[:] = b"b" * LARGE
    assert spy.pieces[0] == b"a" * LARGE


def test_the_thread_ends_with_the_block_and_later_pieces_are_hashed_at_once() -> None:
    spy = Spy()
    with BackgroundHash(spy) as state:
        state.update(bytes(LARGE))
    assert threading.active_count() == 1
    state.update(b"x" * LARGE)
    assert spy.threads[1] == threading.get_ident()
    assert state.digest() == hashlib.sha256(bytes(LARGE) + b"x" * LARGE).digest()


def test_what_hashing_raises_comes_out_of_the_next_call() -> None:
    def digest(state: BackgroundHash) -> object:
        return state.digest()

    def update(state: BackgroundHash) -> object:
        return state.update(b"")

    nexts: tuple[Callable[[BackgroundHash], object], ...] = (digest, update)
    for following in nexts:
        with BackgroundHash(Spy(MemoryError("none left"))) as state:
            state.update(bytes(LARGE))
            with pytest.raises(MemoryError, match="none left"):
                following(state)
