"""What code that broke out of a parser would try: each tries one thing, by the kernel's own calls.

An attempt that comes to its end has succeeded. Targets are the parent of this process (the scanner, which has the
token), files outside of the scan's folder, and servers that the test runs.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bastide.cluster.scanner.confine.linux import syscall

SECRET = b"the scanner's token"
PRCTL, PR_GET_DUMPABLE = 157, 3
_PTRACE_SEIZE, _PTRACE, _PROCESS_VM_READV, _PRLIMIT = 0x4206, 101, 310, 302
_CLONE, _IO_URING_SETUP, _MEMFD_CREATE, _PIDFD_OPEN, _EXECVE, _TGKILL = 56, 425, 319, 434, 59, 234


@dataclass(frozen=True)
class Target:
    """What attempts are made on.

    Attributes:
        folder: of the scan.
        token: a file outside of it with ``SECRET``.
        ports: TCP ports on 127.0.0.1 and ::1, or 0.
        unix: path of a listening unix socket.
        memory: ``SECRET`` in the memory of ``parent``, and of whoever is forked from it.
        parent: a process of the same user.
    """

    folder: Path
    token: Path
    ports: tuple[int, int]
    unix: Path
    memory: ctypes.Array[ctypes.c_char]
    parent: int


def read_token(target: Target) -> None:
    assert target.token.read_bytes() == SECRET


def read_token_from_the_folder(target: Target) -> None:
    """By a path that begins in the folder."""
    here = os.path.relpath(target.token, target.folder)
    assert (target.folder / here).read_bytes() == SECRET


def read_parents_memory_as_a_file(target: Target) -> None:
    descriptor = os.open(f"/proc/{target.parent}/mem", os.O_RDONLY)
    assert os.pread(descriptor, len(SECRET), ctypes.addressof(target.memory)) == SECRET


def read_parents_memory(target: Target) -> None:
    into = ctypes.create_string_buffer(len(SECRET))
    ours = (ctypes.c_ulong * 2)(ctypes.addressof(into), len(SECRET))
    theirs = (ctypes.c_ulong * 2)(ctypes.addressof(target.memory), len(SECRET))
    syscall(_PROCESS_VM_READV, target.parent, ctypes.addressof(ours), 1, ctypes.addressof(theirs), 1, 0)
    assert into.raw[: len(SECRET)] == SECRET


def read_parents_environment(target: Target) -> None:
    Path(f"/proc/{target.parent}/environ").read_bytes()


def read_own_environment(_: Target) -> None:
    Path("/proc/self/environ").read_bytes()


def trace_parent(target: Target) -> None:
    syscall(_PTRACE, _PTRACE_SEIZE, target.parent, 0, 0)


def signal_parent(target: Target) -> None:
    os.kill(target.parent, 0)


def signal_a_thread_of_the_parent(target: Target) -> None:
    syscall(_TGKILL, target.parent, target.parent, 0)


def signal_parent_by_a_file(target: Target) -> None:
    """Whoever owns a descriptor may be sent signals by it."""
    fcntl.fcntl(2, fcntl.F_SETOWN, target.parent)


def take_hold_of_parent(target: Target) -> None:
    syscall(_PIDFD_OPEN, target.parent, 0)


def change_parents_limits(target: Target) -> None:
    syscall(_PRLIMIT, target.parent, resource.RLIMIT_CORE, 0, ctypes.addressof((ctypes.c_ulong * 2)()))


def connect_ipv4(target: Target) -> None:
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", target.ports[0]))


def connect_ipv6(target: Target) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect(("::1", target.ports[1]))


def send_a_datagram(target: Target) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", target.ports[0]))


def connect_unix(target: Target) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(target.unix))


def listen_for_others(_: Target) -> None:
    socket.create_server(("127.0.0.1", 0)).close()


def run_a_program(_: Target) -> None:
    """To its end, if it can be run at all: this never returns."""
    path, none = ctypes.create_string_buffer(b"/bin/true"), (ctypes.c_ulong * 1)(0)
    syscall(_EXECVE, ctypes.addressof(path), ctypes.addressof(none), ctypes.addressof(none))


def fork(_: Target) -> None:
    if not os.fork():
        os._exit(0)


def start_a_thread(_: Target) -> None:
    try:
        thread = threading.Thread(target=int)
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    thread.join()


def clone_into_a_namespace(_: Target) -> None:
    new_user = 0x10000000
    if not syscall(_CLONE, new_user | signal.SIGCHLD, 0, 0, 0, 0):
        os._exit(0)


def write_outside(target: Target) -> None:
    (target.token.parent / "planted").write_bytes(b"x")


def write_a_name_in_the_folder(target: Target) -> None:
    (target.folder / "planted").write_bytes(b"x")


def change_the_token(target: Target) -> None:
    with target.token.open("ab") as file:
        file.write(b"")


def list_a_folder(target: Target) -> None:
    list(target.token.parent.iterdir())


def link_the_token_into_the_folder(target: Target) -> None:
    os.link(target.token, target.folder / "linked")


def remove_the_token(target: Target) -> None:
    (target.token.parent / "spare").unlink()


def make_code(_: Target) -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def turn_data_into_code(_: Target) -> None:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    syscall(10, address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC)


def call_around_the_filter(_: Target) -> None:
    """io_uring makes calls that no filter sees."""
    parameters = ctypes.create_string_buffer(120)
    syscall(_IO_URING_SETUP, 1, ctypes.addressof(parameters))


def hold_a_file_in_memory(_: Target) -> None:
    name = ctypes.create_string_buffer(b"x")
    syscall(_MEMFD_CREATE, ctypes.addressof(name), 0)


def show_memory_again(_: Target) -> None:
    from bastide.cluster.scanner.confine.linux import PR_SET_DUMPABLE, prctl

    prctl(PR_SET_DUMPABLE, 1)


Attempt = Callable[[Target], None]


def outcome(lock: Callable[[], object], attempt: Callable[[], object]) -> str:
    """What becomes of an attempt in a process of its own that is locked first.

    Returns:
        ``done``, the name of an error number, that of the signal that ended it, or how locking it failed.
    """
    out, into = os.pipe()
    child = os.fork()
    if not child:
        _try(lock, attempt, into)
    os.close(into)
    with os.fdopen(out, "rb") as said:
        words = said.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return words or "done"  # it became another program


def _try(lock: Callable[[], object], attempt: Callable[[], object], into: int) -> None:
    words = "never locked"
    try:
        lock()
        words = words_for(attempt)
    except BaseException as error:  # noqa: BLE001 - this process ends here
        words = f"not locked: {error}"
    finally:
        os.write(into, words.encode())
        os._exit(0)


def words_for(attempt: Callable[[], object]) -> str:
    """What becomes of an attempt in this process, if it lives on: ``done`` or the name of an error number."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    except AssertionError:
        return "something else"
    return "done"
