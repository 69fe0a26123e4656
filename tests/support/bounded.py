"""Asynchronous tests that end by themselves and leave nothing behind."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def run_bounded(test: Callable[[], Awaitable[None]], *, seconds: float = 20) -> None:
    """Run ``test`` in a loop of its own; it must end in time and leave no task."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await test()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            # gRPC ends the tasks of a cancelled call by itself, a moment later.
            _, left = await asyncio.wait(left, timeout=2)
        assert not left, f"tasks left behind: {left}"

    asyncio.run(bounded())


async def eventually(holds: Callable[[], bool], what: str, *, seconds: float = 10) -> None:
    """Wait until ``holds`` does."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise AssertionError(f"not within {seconds} s: {what}") from error


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A fresh folder with a path short enough for unix sockets (pytest's own are not)."""
    with tempfile.TemporaryDirectory(prefix="bt-") as folder:
        yield Path(folder)
