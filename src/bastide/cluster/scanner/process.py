"""Running a job in a process of its own, in a folder that is gone afterwards."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from bastide.cluster.scanner.job import LARGEST_ANSWER, Answer, ScanJob
from bastide.errors import UnavailableError

_PREFIX: Final = "bastide-scan-"
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH")
_GRACE: Final = 30.0


async def run_job(job: ScanJob, work: Path) -> Answer:
    """Do a job in a process; ends it when it takes longer than its limits say, or when this is cancelled.

    Args:
        job: what to do.
        work: where its folder is made.

    Raises:
        UnavailableError: ``scanner.scan.ended``, ``scanner.scan.time``.
        MalformedError: an answer that is no report.
    """
    try:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=work)
    except OSError as error:
        message = f"cannot make a folder: {error.strerror}"
        raise UnavailableError("scanner.disk.work", message, where=str(work)) from error
    try:
        return await _run(job, folder)
    except OSError as error:
        raise UnavailableError("scanner.scan.ended", f"cannot start the scanning process: {error}") from error
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def remove_leftovers(work: Path) -> None:
    """Folders of a scanner that was killed."""
    for folder in work.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


async def _run(job: ScanJob, folder: str) -> Answer:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "bastide.cluster.scanner.worker",
        folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**environment, "TMPDIR": folder},
        limit=LARGEST_ANSWER,
    )
    try:
        async with asyncio.timeout(job.limits.seconds + job.limits.cpu + _GRACE):
            return Answer.parse(await _talk(process, job.build()), job.digest)
    except TimeoutError:
        message = f"looking into it takes more than {job.limits.seconds + job.limits.cpu:g} s"
        raise UnavailableError("scanner.scan.time", message) from None
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())


async def _talk(process: asyncio.subprocess.Process, job: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise UnavailableError("scanner.scan.ended", "the scanning process has no pipes")
    process.stdin.write(job)
    process.stdin.close()
    raw = b""
    while piece := await process.stdout.read(1 << 16):
        raw += piece
        if len(raw) > LARGEST_ANSWER:
            return b""
    await process.wait()  # a kill right after its end would race with asyncio for its exit code
    return raw
