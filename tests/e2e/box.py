"""A node box: namespaces in which real Kubernetes parts run, and which one kill removes whole."""

import fcntl
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).parent
_PREFIX = "bastide-e2e-box-"
_NAMESPACES = ("-m", "-n", "-p", "-i", "-u")
_CGROUPS = Path("/sys/fs/cgroup")
_PATIENCE = 120.0
"""Seconds that processes may take to begin and to end, on a machine with other work."""


class CommandFailedError(AssertionError):
    """A command in the box ended badly; an assertion, so that who waits for it tries again."""


class Box:
    """One node: its processes see a disk, devices, network and process numbers of their own.

    The box ends when this process ends, however that happens: its first process waits for the end of a pipe that only
    we hold. Starting a stopped box again is a reboot: the disk stays.
    """

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.cgroup = self.folder.name
        self._lock = (self.folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0
        self._parts: list[Part] = []

    def start(self) -> None:
        """Make the namespaces and wait until they are a node."""
        make_cgroup(self.cgroup)
        unshare = ("unshare", *_NAMESPACES, "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "slave")
        with (self.logs / "box.log").open("ab") as log:
            self._outer = subprocess.Popen(
                [*unshare, "bash", str(_HERE / "boxinit.sh"), str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._await_ready()
        self._first = _only_child(self._outer.pid)
        self._write_enter()

    def _await_ready(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._outer.stdout, selectors.EVENT_READ)
            if not selector.select(timeout=_PATIENCE) or self._outer.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the box did not start: {(self.logs / 'box.log').read_text()}")

    def _write_enter(self) -> None:
        """A script for people who want to look into the box."""
        enter = self.folder / "enter"
        enter.write_text(f'#!/bin/sh\n[ $# -gt 0 ] || set -- bash\nexec {" ".join(self._enter())} "$@"\n')
        enter.chmod(0o755)

    def _enter(self) -> list[str]:
        path = f"{self.binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["nsenter", "-t", str(self._first), *_NAMESPACES, "--wd=/", "env", "-i", f"PATH={path}", "HOME=/root"]

    @property
    def network(self) -> Path:
        """The file of the box's network namespace."""
        return Path(f"/proc/{self._first}/ns/net")

    def run(self, *argv: str, stdin: bytes = b"", timeout: float = 120, check: bool = True) -> str:
        """Run a command in the box to its end; its standard output.

        Raises:
            CommandFailedError: where it ends with another status than 0; not asked for without ``check``.
        """
        done = subprocess.run([*self._enter(), *argv], input=stdin, capture_output=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise CommandFailedError(f"{' '.join(argv)} ended with {done.returncode} in the box: {said}")
        return done.stdout.decode(errors="replace")

    def part(self, name: str, *argv: str) -> "Part":
        """A long-running program of the box, not started yet; its output goes to the logs."""
        part = Part(name, lambda: [*self._enter(), *argv], self.logs / f"{name}.log")
        self._parts.append(part)
        return part

    def kill(self) -> None:
        """End everything in the box at once, as a power failure does. The disk stays."""
        if self._outer is not None:
            self._outer.kill()
            self._outer.communicate()
            self._outer = None
        for part in self._parts:
            part.await_end()
        remove_cgroup(self.cgroup)

    def remove(self, *, keep_logs_in: Path | None = None) -> None:
        """End the box and leave nothing behind but, where asked, its logs."""
        self.kill()
        if keep_logs_in is not None:
            shutil.rmtree(keep_logs_in, ignore_errors=True)
            shutil.copytree(self.logs, keep_logs_in)
        shutil.rmtree(self.folder)
        self._lock.close()


class Part:
    """One long-running program in the box."""

    def __init__(self, name: str, argv: Callable[[], list[str]], log: Path) -> None:
        self.name = name
        self._argv = argv
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; the log of a former run is continued."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by ``how``, and by force where that has no effect in time."""
        self.require_alive()
        inside = _only_child(self._process.pid)  # nsenter waits outside; the program itself is its child
        os.kill(inside, how)
        try:
            self.await_end()
        except subprocess.TimeoutExpired:
            os.kill(inside, signal.SIGKILL)
            self.await_end()

    def await_end(self) -> None:
        """Wait for its end, which someone has brought about."""
        if self._process is not None:
            self._process.wait(_PATIENCE)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop and start."""
        self.stop(how)
        self.start()

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def require_alive(self) -> None:
        """Raise RuntimeError with the log's end where the program has ended by itself."""
        if not self.alive:
            raise RuntimeError(f"{self.name} does not run; its log ends with:\n{self.log_end()}")

    def log_end(self, length: int = 3000) -> str:
        """The last characters of the log."""
        return self._log.read_text(errors="replace")[-length:] if self._log.exists() else ""


def _only_child(parent: int) -> int:
    """The one process whose parent is ``parent``, as soon as there is one."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        for process in Path("/proc").glob("[0-9]*"):
            if _parent_of(process) == parent:
                return int(process.name)
        time.sleep(0.02)
    raise RuntimeError(f"process {parent} has no child")


def _parent_of(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None  # it ended while we looked


def make_cgroup(name: str) -> None:
    """The cgroup below which the kubelet puts its pods, in every hierarchy of v1 or in the one of v2."""
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new v1 cpuset, which then takes no process
            if (folder / setting).exists() and not _unified():
                (folder / setting).write_text((hierarchy / setting).read_text())


def remove_cgroup(name: str) -> None:
    """Remove the cgroup and those below it, which are empty as soon as the box's processes are gone."""
    end = time.monotonic() + _PATIENCE
    for folder in [hierarchy / name for hierarchy in _hierarchies()]:
        while folder.exists() and time.monotonic() < end:
            for below, _, _ in os.walk(folder, topdown=False):
                try:
                    Path(below).rmdir()
                except OSError:
                    time.sleep(0.05)  # a killed process may take a moment to leave


def _unified() -> bool:
    return (_CGROUPS / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    return [_CGROUPS] if _unified() else [path for path in _CGROUPS.iterdir() if path.is_dir()]


def sweep() -> None:
    """Remove what boxes of killed runs left: folders and empty cgroups. Boxes of running tests hold their lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with (folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove_cgroup(folder.name)
            shutil.rmtree(folder)
            sys.stderr.write(f"e2e: removed what a killed run left: {folder}\n")


if __name__ == "__main__":
    sweep()
