"""The process that looks into one image, and then ends: ``python -m bastide.cluster.scanner.worker FOLDER``.

It reads what strangers made, so it is bounded by the kernel: memory, CPU time, size of files; and whoever started it
ends it when it takes too long. It gets the credentials of one registry and no right in the cluster.

Source: setrlimit(2).
"""

import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from bastide.cluster.gate.report import Failure, ImageReport
from bastide.cluster.scanner.job import Answer, ScanJob
from bastide.cluster.scanner.pull import ScanLimits
from bastide.cluster.scanner.scan import SCANNER, Spent, failure_of
from bastide.errors import BastideError, UnavailableError
from bastide.units import MIB

_LARGEST_JOB: Final = 1 << 20
_GRACE: Final = 5
"""Seconds of CPU time to answer that there is no more of it."""
_RESERVE: Final = 32 * MIB
"""Bytes to answer that there is no more memory."""


class _OutOfTime(BaseException):
    """The CPU time is used up; no handler of ordinary errors may keep it."""


def main() -> None:
    """Read a job, do it, write its answer."""
    job = ScanJob.parse(sys.stdin.buffer.read(_LARGEST_JOB))
    _limit(job.limits)
    sys.stdout.buffer.write(answer(job, Path(sys.argv[1])).build())
    sys.stdout.buffer.flush()


def answer(job: ScanJob, folder: Path) -> Answer:
    """Do a job and say what became of it, whatever happens."""
    spent = Spent()
    report: ImageReport | None = None
    passing: Failure | None = None
    try:
        report = job.run(folder, now=_now, spent=spent)
    except UnavailableError as error:
        passing = failure_of(error)
    except BastideError as error:
        report = _failed(job, failure_of(error))
    except _OutOfTime:
        message = f"looking into it takes more than {job.limits.cpu} s of CPU time"
        report = _failed(job, Failure(code="scanner.scan.work", message=message))
    except MemoryError:
        _use_reserve()
        report = _failed(job, Failure(code="scanner.scan.memory", message="looking into it takes too much memory"))
    except Exception as error:  # noqa: BLE001 - a fault of ours must not let an image pass, nor be tried for ever
        message = f"a fault of the scanner: {type(error).__name__}; please report it"
        report = _failed(job, Failure(code="scanner.scan.fault", message=message))
        sys.excepthook(type(error), error, error.__traceback__)
    return Answer(report=report, passing=passing, seconds=spent.seconds, pulled=spent.pulled)


def _failed(job: ScanJob, failure: Failure) -> ImageReport:
    return ImageReport(digest=job.digest, failure=failure, scanned_at=_now(), scanner=SCANNER)


def _limit(limits: ScanLimits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _data_in_use() + limits.memory
    resource.setrlimit(resource.RLIMIT_DATA, (most, most + _RESERVE))
    largest = max(limits.layer, limits.file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    signal.signal(signal.SIGXCPU, _end)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + _GRACE))


def _data_in_use() -> int:
    """Bytes that the interpreter itself has taken.

    Source: proc(5), ``/proc/pid/statm``, sixth field.
    """
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _use_reserve() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a signal handler
    raise _OutOfTime


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


if __name__ == "__main__":
    main()
