"""Locking a process in, before it reads what strangers made. Why so: docs/adr/0004-scans-in-locked-processes.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bastide.cluster.scanner.confine import landlock, seccomp
from bastide.cluster.scanner.confine.calls import deadly
from bastide.cluster.scanner.confine.landlock import NETWORK_SINCE, SIGNALS_SINCE, Access
from bastide.cluster.scanner.confine.linux import hide_memory
from bastide.cluster.scanner.confine.seccomp import Allowed
from bastide.errors import UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Protections:
    """What holds, or would hold, the processes of a scan.

    Attributes:
        calls: the filter of system calls (seccomp).
        landlock: version of Landlock in use; 0 for none.
    """

    calls: bool
    landlock: int

    def __str__(self) -> str:
        """In words."""
        since = {1: "files", NETWORK_SINCE: "TCP", SIGNALS_SINCE: "signals"}
        parts = ", ".join(what for version, what in since.items() if self.landlock >= version)
        named = ["a filter of system calls"] if self.calls else []
        named += [f"Landlock {self.landlock} ({parts})"] if self.landlock else []
        missing = [] if self.calls else ["no filter of system calls"]
        missing += [] if self.landlock else ["no Landlock"]
        return "; ".join((*named, *missing))


def available() -> Protections:
    """What this kernel has."""
    return Protections(calls=seccomp.is_available(), landlock=landlock.version())


def require(protections: Protections, *, optional: bool) -> None:
    """Refuse to look into images unheld, unless that was chosen.

    Raises:
        UnavailableError: ``scanner.confine.calls``.
    """
    if not protections.calls and not optional:
        message = f"expected a filter of system calls around what reads images, seen {protections}"
        hint = "run it on x86-64 Linux with seccomp, or take the risk with --allow-unconfined"
        raise UnavailableError("scanner.confine.calls", message, hint=hint)


def lock_in(
    files: Mapping[Path, Access], allowed: Allowed, *, tcp: bool, optional: bool, begin: Callable[[], None]
) -> Protections:
    """Give up, for good, whatever is not named; from here on this process can be fed anything.

    Args:
        files: what may be done below which path, where there is Landlock.
        allowed: system calls.
        tcp: whether TCP stays.
        optional: go on where there is no filter.
        begin: starts the threads of this process: after Landlock, which holds for a thread and those it starts, and
            before the filter, which lets none be started.

    Raises:
        UnavailableError: ``scanner.confine.calls``, ``scanner.confine.refused``.
    """
    has_filter = seccomp.is_available()
    require(Protections(calls=has_filter, landlock=landlock.version()), optional=optional)
    try:
        hide_memory()
        used = landlock.restrict(files, tcp=tcp)
        begin()
        if has_filter:
            seccomp.install(seccomp.program(allowed, deadly(allowed)))
    except OSError as error:
        message = f"the kernel refuses to lock the process in: {error.strerror}"
        raise UnavailableError("scanner.confine.refused", message) from error
    return Protections(calls=has_filter, landlock=used)
