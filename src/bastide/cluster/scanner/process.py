"""Running a scan: one process pulls, another reads, in a folder that is gone afterwards."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from bastide.cluster.gate.report import Failure
from bastide.cluster.scanner.answer import LARGEST_ANSWER, Answer
from bastide.cluster.scanner.job import ScanJob
from bastide.cluster.scanner.read_job import ReadJob
from bastide.cluster.scanner.scan import begun_report
from bastide.errors import UnavailableError

_PREFIX: Final = "bastide-scan-"
_PASSED_ON: Final = ("LANG", "LC_ALL", "LD_LIBRARY_PATH")
_PASSED_ON_TO_PULL: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_GRACE: Final = 30.0
_LARGEST_TRACE: Final = 64 * 1024
_log = logging.getLogger("bastide.scanner")


async def run_job(job: ScanJob, work: Path) -> Answer:
    """Do a job in processes; ends them when they take longer than its limits say, or when this is cancelled.

    Args:
        job: what to do.
        work: where its folder is made.

    Raises:
        UnavailableError: ``scanner.scan.ended``, ``scanner.scan.time``, ``scanner.scan.forbidden`` (the pulling
            process did what pulling never needs).
        MalformedError: an answer that is no report.
    """
    try:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=work)
    except OSError as error:
        message = f"cannot make a folder: {error.strerror}"
        raise UnavailableError("scanner.disk.work", message, where=str(work)) from error
    seconds = job.limits.seconds + job.limits.cpu
    try:
        async with asyncio.timeout(seconds + _GRACE):
            return await _run(job, folder)
    except TimeoutError:
        message = f"looking into it takes more than {seconds:g} s"
        raise UnavailableError("scanner.scan.time", message) from None
    except OSError as error:
        raise UnavailableError("scanner.scan.ended", f"cannot start the scanning process: {error}") from error
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def remove_leftovers(work: Path) -> None:
    """Folders of a scanner that was killed."""
    for folder in work.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


async def _run(job: ScanJob, folder: str) -> Answer:
    raw, killed = await _ask("puller", job.build(), folder, (*_PASSED_ON, *_PASSED_ON_TO_PULL))
    if killed:
        raise UnavailableError("scanner.scan.forbidden", _forbidden("pulling"))
    pulled = Answer.parse(raw, job.digest)
    if pulled.report is None or pulled.report.failure is not None:
        return pulled
    manifests = tuple(one.digest for one in pulled.report.manifests)
    told = ReadJob(digest=job.digest, manifests=manifests, limits=job.limits, unconfined=job.unconfined)
    raw, killed = await _ask("reader", told.build(), folder, _PASSED_ON)
    if killed:
        failure = Failure(code="scanner.scan.forbidden", message=_forbidden("reading"))
        return pulled.followed_by(Answer(report=replace(begun_report(job.digest), failure=failure), seconds={}))
    return pulled.followed_by(Answer.parse(raw, job.digest))


async def _ask(part: str, job: bytes, folder: str, passed_on: tuple[str, ...]) -> tuple[bytes, bool]:
    """What a process answers, and whether its filter of system calls ended it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        f"bastide.cluster.scanner.{part}",
        folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in passed_on if name in os.environ},
    )
    try:
        raw = await _talk(process, part, job)
        # A kill right after its end would race with asyncio for its exit code.
        is_forbidden = await process.wait() == -signal.SIGSYS
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.shield(_end(process))
    if is_forbidden:
        _log.error("%s %d was ended by its filter of calls: take what it was given for an attack", part, process.pid)
    return raw, is_forbidden


async def _talk(process: asyncio.subprocess.Process, part: str, job: bytes) -> bytes:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise UnavailableError("scanner.scan.ended", "the scanning process has no pipes")
    process.stdin.write(job)
    process.stdin.close()
    raw, said = await asyncio.gather(
        _whole(process, process.stdout, LARGEST_ANSWER), _whole(process, process.stderr, _LARGEST_TRACE)
    )
    for line in said.decode("utf-8", "replace").splitlines():
        # Its words stand in the log as its words: it may be another's by now.
        _log.warning("%s %d: %s", part, process.pid, "".join(one if one.isprintable() else "?" for one in line))
    return raw


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for what was killed. Python waits for the ends of the pipes too, which stand behind what is unread in them.

    Whoever else has the pipes open by then (where nothing is locked in) is not waited for.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            for stream in filter(None, (process.stdout, process.stderr)):
                await _whole(process, stream, 0)
            await process.wait()


async def _whole(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, most: int) -> bytes:
    """All that comes; nothing where it is too much, and the process is ended."""
    raw, is_too_much = b"", False
    while piece := await stream.read(1 << 16):
        is_too_much = is_too_much or len(raw) + len(piece) > most
        raw = b"" if is_too_much else raw + piece
        if is_too_much and process.returncode is None:
            process.kill()
    return raw


def _forbidden(doing: str) -> str:
    return f"the process was ended for a system call that {doing} never makes: take what it was given for an attack"
