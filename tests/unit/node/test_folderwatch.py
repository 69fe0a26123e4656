import asyncio
import time
from pathlib import Path

import pytest

from bastide.node.folderwatch import DEAF_SECONDS, FolderWatch
from support.bounded import run_bounded

LONG = 60.0


def _open_watches():
    """Inotify instances alone: what other tests left to the garbage collector comes and goes."""
    return sum(str(file.readlink()) == "anon_inode:inotify" for file in _open_files())


def _open_files():
    return [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def _watching(test, *folders):
    """``test(watch)`` while the folders are watched; a wait of ``LONG`` that nothing wakes fails it."""

    async def watched():
        with FolderWatch(lambda: folders) as watch:
            await test(watch)

    run_bounded(watched, seconds=10)


async def _seconds(work):
    begun = time.monotonic()
    await work
    return time.monotonic() - begun


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "old").unlink(),
        lambda folder: (folder / "old").rename(folder / "other"),
        lambda folder: (folder / "old").rename(folder.parent / "away"),
    ],
)
def test_names_that_come_and_go_are_news(tmp_path, change):
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "old").touch()

    async def changed(watch):
        news = asyncio.create_task(watch.news(LONG))
        await asyncio.sleep(0.05)
        assert not news.done()
        change(folder)
        await news

    _watching(changed, folder)


def test_a_change_between_two_waits_is_not_missed(tmp_path):
    async def changed(watch):
        for number in range(3):
            (tmp_path / str(number)).touch()
            await watch.news(LONG)

    _watching(changed, tmp_path)


def test_without_news_the_wait_is_as_long_as_it_may_be(tmp_path):
    async def waited(watch):
        assert 0.2 <= await _seconds(watch.news(0.2)) < DEAF_SECONDS

    _watching(waited, tmp_path)


def test_everybody_who_waits_is_told(tmp_path):
    async def told(watch):
        waiting = [asyncio.create_task(watch.news(LONG)) for _ in range(3)]
        await asyncio.sleep(0.05)
        (tmp_path / "new").touch()
        await asyncio.gather(*waiting)

    _watching(told, tmp_path)


def test_a_burst_is_one_piece_of_news(tmp_path):
    async def burst(watch):
        news = asyncio.create_task(watch.news(LONG))
        await asyncio.sleep(0.05)
        for number in range(50):
            (tmp_path / str(number)).touch()
            if number % 10 == 0:
                await asyncio.sleep(0)
        await news
        assert await _seconds(watch.news(0.2)) >= 0.2

    _watching(burst, tmp_path)


def test_a_folder_that_is_made_later_is_looked_at_often_and_then_watched(tmp_path):
    folder = tmp_path / "later"

    async def made(watch):
        assert await _seconds(watch.news(LONG)) < 2 * DEAF_SECONDS
        folder.mkdir()
        await watch.news(LONG)
        news = asyncio.create_task(watch.news(LONG))
        await asyncio.sleep(2 * DEAF_SECONDS)
        assert not news.done()
        (folder / "new").touch()
        await news

    _watching(made, folder)


def test_a_folder_that_is_removed_and_made_again_is_watched_again(tmp_path):
    folder = tmp_path / "again"
    folder.mkdir()

    async def made(watch):
        folder.rmdir()
        await watch.news(LONG)
        folder.mkdir()
        await watch.news(LONG)
        news = asyncio.create_task(watch.news(LONG))
        await asyncio.sleep(2 * DEAF_SECONDS)
        assert not news.done()
        (folder / "new").touch()
        await news

    _watching(made, folder)


def test_a_folder_in_whose_place_another_is_moved_is_let_go(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()

    async def moved(watch):
        folder.rename(tmp_path / "away")
        folder.mkdir()
        await watch.news(LONG)
        (tmp_path / "away" / "new").touch()
        assert await _seconds(watch.news(0.2)) >= 0.2

    _watching(moved, folder)


class _Refusing:
    """A kernel that has no watch to give."""

    def inotify_init1(self, _flags):
        return -1


def test_where_the_kernel_gives_no_watch_waits_are_short_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("bastide.node.folderwatch.ctypes.CDLL", lambda _name, **_: _Refusing())

    async def waited():
        with FolderWatch(lambda: (tmp_path,)) as watch:
            assert await _seconds(watch.news(LONG)) < 2 * DEAF_SECONDS

    run_bounded(waited)
    assert [record.message.startswith("no inotify") for record in caplog.records] == [True]


def test_a_folder_that_cannot_be_watched_among_others_makes_waits_short(tmp_path):
    file = tmp_path / "file"
    file.touch()

    async def waited(watch):
        assert await _seconds(watch.news(LONG)) < 2 * DEAF_SECONDS

    _watching(waited, tmp_path, file)


def test_nothing_stays_open():
    before = _open_watches()

    async def watched():
        for _ in range(3):
            with FolderWatch(lambda: (Path("/"),)) as watch:
                await watch.news(0.01)
                assert _open_watches() > before

    run_bounded(watched)
    assert _open_watches() == before
