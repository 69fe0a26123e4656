"""What the processes of a scan have in common: bounds that the kernel keeps, and an answer whatever happens.

They read what strangers made, so they are bounded in memory, CPU time and size of files; and whoever started them ends
them when they take too long.

Source: setrlimit(2).
"""

import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from bastide.cluster.gate.report import Failure, ImageReport
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.scan import Spent, begun_report, failure_of
from bastide.errors import BastideError, UnavailableError
from bastide.units import MIB

LARGEST_JOB: Final = 1 << 20
_GRACE: Final = 5
"""Seconds of CPU time to answer that there is no more of it."""
_RESERVE: Final = 32 * MIB
"""Bytes to answer that there is no more memory."""


class OutOfTime(BaseException):
    """The CPU time is used up; no handler of ordinary errors may keep it."""


def work(digest: str, limits: ScanLimits, task: Callable[[Spent], ImageReport]) -> None:
    """Do a task within its bounds and write its answer."""
    _limit(limits)
    sys.stdout.buffer.write(answer(digest, limits, task).build())
    sys.stdout.buffer.flush()


def answer(digest: str, limits: ScanLimits, task: Callable[[Spent], ImageReport]) -> Answer:
    """Do a task and say what became of it, whatever happens."""
    spent = Spent()
    report: ImageReport | None = None
    passing: Failure | None = None
    try:
        report = task(spent)
    except UnavailableError as error:
        passing = failure_of(error)
    except BastideError as error:
        report = _failed(digest, failure_of(error))
    except OutOfTime:
        message = f"looking into it takes more than {limits.cpu} s of CPU time"
        report = _failed(digest, Failure(code="scanner.scan.work", message=message))
    except MemoryError:
        _use_reserve()
        report = _failed(digest, Failure(code="scanner.scan.memory", message="looking into it takes too much memory"))
    except Exception as error:  # noqa: BLE001 - a fault of ours must not let an image pass, nor be tried for ever
        message = f"a fault of the scanner: {type(error).__name__}; please report it"
        report = _failed(digest, Failure(code="scanner.scan.fault", message=message))
        sys.excepthook(type(error), error, error.__traceback__)
    return Answer(report=report, passing=passing, seconds=spent.seconds, pulled=spent.pulled)


def _failed(digest: str, failure: Failure) -> ImageReport:
    return replace(begun_report(digest), failure=failure)


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
    raise OutOfTime
