"""What a process of a scan can still do once it is locked in: each attempt is really made, in a process of its own."""

import ctypes
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.cluster.scanner import puller, reader
from bastide.cluster.scanner.confine import calls, landlock, seccomp
from bastide.cluster.scanner.confine.landlock import Access
from bastide.cluster.scanner.confine.linux import PR_SET_DUMPABLE, hide_memory, prctl, syscall
from bastide.cluster.scanner.confine.lock import Protections, available, lock_in, require
from bastide.errors import UnavailableError
from support import escapes
from support.bounded import socket_folder
from support.escapes import PR_GET_DUMPABLE, PRCTL, SECRET, Attempt, Target, outcome

pytestmark = pytest.mark.skipif(not available().calls, reason="this kernel has no filter of system calls for us")
needs_landlock = pytest.mark.skipif(landlock.version() < landlock.SIGNALS_SINCE, reason="this kernel's Landlock is old")
Confine = Callable[..., None]
NOBODY = 65532
HEADERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")

# What becomes of each attempt: in a reader; in one on a kernel without Landlock; with nothing but Landlock around it.
READING = {
    escapes.read_token: ("EPERM", "EPERM", "EACCES"),
    escapes.read_token_from_the_folder: ("EPERM", "EPERM", "EACCES"),
    escapes.read_parents_memory_as_a_file: ("EPERM", "EPERM", "EACCES"),
    escapes.read_parents_memory: ("SIGSYS", "SIGSYS", "EPERM"),
    escapes.read_parents_environment: ("EPERM", "EPERM", "EACCES"),
    escapes.read_own_environment: ("EPERM", "EPERM", "EACCES"),
    escapes.trace_parent: ("SIGSYS", "SIGSYS", "EPERM"),
    escapes.signal_parent: ("SIGSYS", "SIGSYS", "EPERM"),
    escapes.signal_a_thread_of_the_parent: ("EPERM", "EPERM", "EPERM"),
    escapes.signal_parent_by_a_file: ("EPERM", "EPERM", None),
    escapes.take_hold_of_parent: ("SIGSYS", "SIGSYS", None),
    escapes.change_parents_limits: ("EPERM", "EPERM", None),
    escapes.connect_ipv4: ("SIGSYS", "SIGSYS", "EACCES"),
    escapes.connect_ipv6: ("SIGSYS", "SIGSYS", "EACCES"),
    escapes.send_a_datagram: ("SIGSYS", "SIGSYS", None),
    escapes.connect_unix: ("SIGSYS", "SIGSYS", None),
    escapes.listen_for_others: ("SIGSYS", "SIGSYS", "EACCES"),
    escapes.run_a_program: ("SIGSYS", "SIGSYS", "EACCES"),
    escapes.fork: ("EPERM", "EPERM", None),
    escapes.start_a_thread: ("EAGAIN", "EAGAIN", None),
    escapes.clone_into_a_namespace: ("EPERM", "EPERM", None),
    escapes.write_outside: ("EPERM", "EPERM", "EACCES"),
    escapes.write_a_name_in_the_folder: ("EPERM", "EPERM", "EACCES"),
    escapes.change_the_token: ("EPERM", "EPERM", "EACCES"),
    escapes.list_a_folder: ("EPERM", "EPERM", "EACCES"),
    escapes.link_the_token_into_the_folder: ("EPERM", "EPERM", "EACCES"),
    escapes.remove_the_token: ("EPERM", "EPERM", "EACCES"),
    escapes.make_code: ("EPERM", "EPERM", None),
    escapes.turn_data_into_code: ("EPERM", "EPERM", None),
    escapes.call_around_the_filter: ("SIGSYS", "SIGSYS", None),
    escapes.hold_a_file_in_memory: ("EPERM", "EPERM", None),
    escapes.show_memory_again: ("EPERM", "EPERM", None),
}
# What a puller may do is left out: files in its folder, the network, threads of none.
PULLING = {
    escapes.read_token: "EACCES",
    escapes.read_token_from_the_folder: "EACCES",
    escapes.read_parents_memory_as_a_file: "EACCES",
    escapes.read_parents_memory: "SIGSYS",
    escapes.read_parents_environment: "EACCES",
    escapes.read_own_environment: "EACCES",
    escapes.trace_parent: "SIGSYS",
    escapes.signal_parent: "SIGSYS",
    escapes.signal_a_thread_of_the_parent: "EPERM",
    escapes.signal_parent_by_a_file: "EPERM",
    escapes.take_hold_of_parent: "SIGSYS",
    escapes.change_parents_limits: "EPERM",
    escapes.connect_unix: "EPERM",
    escapes.listen_for_others: "SIGSYS",
    escapes.run_a_program: "SIGSYS",
    escapes.fork: "EPERM",
    escapes.start_a_thread: "EAGAIN",
    escapes.clone_into_a_namespace: "EPERM",
    escapes.write_outside: "EACCES",
    escapes.change_the_token: "EACCES",
    escapes.list_a_folder: "EACCES",
    escapes.link_the_token_into_the_folder: "EPERM",
    escapes.remove_the_token: "EPERM",
    escapes.call_around_the_filter: "SIGSYS",
    escapes.hold_a_file_in_memory: "EPERM",
    escapes.show_memory_again: "EPERM",
}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    folder = tmp_path / "scan"
    folder.mkdir()
    (tmp_path / "token").write_bytes(SECRET)
    (tmp_path / "spare").write_bytes(b"")
    memory = ctypes.create_string_buffer(SECRET)
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))]
        if socket.has_ipv6:
            servers.append(stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)))
        unix = stack.enter_context(socket_folder()) / "s"
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(unix))
        listening.listen()
        ports = [server.getsockname()[1] for server in servers]
        yield Target(folder, tmp_path / "token", (ports[0], ports[-1]), unix, memory, os.getpid())


def _without(module: object, name: str, value: object) -> None:
    """In the process that is about to be locked only: it ends before anybody else sees it."""
    setattr(module, name, lambda: value)


def _with_filter_only(folder: Path, **_: bool) -> None:
    _without(landlock, "version", 0)
    reader.confine(folder, optional=False)


def _with_landlock_only(folder: Path) -> None:
    _without(seccomp, "is_available", False)
    reader.confine(folder, optional=True)


def _as_puller(folder: Path) -> None:
    puller.confine(folder, optional=False)


@pytest.mark.parametrize("attempt", READING, ids=lambda one: one.__name__)
def test_without_a_lock_each_attempt_succeeds(target: Target, attempt: Attempt) -> None:
    if os.geteuid() and attempt in (escapes.trace_parent, escapes.read_parents_memory):
        pytest.skip("Yama may hold off what is no child of one's own")
    assert outcome(lambda: None, lambda: attempt(target)) == "done"


@pytest.mark.parametrize("attempt", READING, ids=lambda one: one.__name__)
def test_a_reader_can_do_none_of_it(target: Target, attempt: Attempt) -> None:
    found = outcome(lambda: reader.confine(target.folder, optional=False), lambda: attempt(target))
    assert found == READING[attempt][0]


@pytest.mark.parametrize("attempt", READING, ids=lambda one: one.__name__)
def test_a_reader_can_do_none_of_it_on_a_kernel_without_landlock(target: Target, attempt: Attempt) -> None:
    assert outcome(lambda: _with_filter_only(target.folder), lambda: attempt(target)) == READING[attempt][1]


@needs_landlock
@pytest.mark.parametrize("attempt", [one for one in READING if READING[one][2]], ids=lambda one: one.__name__)
def test_landlock_alone_keeps_files_tcp_and_other_processes_out_of_reach(target: Target, attempt: Attempt) -> None:
    assert outcome(lambda: _with_landlock_only(target.folder), lambda: attempt(target)) == READING[attempt][2]


@needs_landlock
def test_landlock_alone_gives_up_new_privileges_too(target: Target) -> None:
    """Without that only somebody privileged may use it at all."""
    status: list[int] = []

    def locked() -> None:
        status.append(os.open("/proc/self/status", os.O_RDONLY))
        _with_landlock_only(target.folder)

    def work() -> None:
        assert b"NoNewPrivs:\t1" in os.read(status[0], 10_000)

    assert outcome(locked, work) == "done"


@needs_landlock
@pytest.mark.parametrize("attempt", PULLING, ids=lambda one: one.__name__)
def test_a_puller_can_do_none_of_it(target: Target, attempt: Attempt) -> None:
    assert outcome(lambda: _as_puller(target.folder), lambda: attempt(target)) == PULLING[attempt]


def test_a_puller_has_the_network_and_its_folder(target: Target) -> None:
    def work(target: Target) -> None:
        escapes.connect_ipv4(target)
        escapes.connect_ipv6(target)
        assert socket.getaddrinfo("localhost", 80)
        (target.folder / "blobs").mkdir()
        (target.folder / "blobs" / "one").write_bytes(b"x" * 100)
        assert os.statvfs(target.folder).f_bavail

    assert outcome(lambda: _as_puller(target.folder), lambda: work(target)) == "done"


def test_a_reader_puts_files_without_a_name_aside(target: Target) -> None:
    def work() -> None:
        import tempfile

        with tempfile.TemporaryFile() as aside:
            aside.write(b"x" * 100)
            assert aside.seek(0) == 0
            assert aside.read() == b"x" * 100

    for confine in (reader.confine, _with_filter_only):
        assert outcome(lambda confine=confine: confine(target.folder, optional=False), work) == "done"
    assert not list(target.folder.iterdir())


@pytest.mark.parametrize("number", [39, 1, 41])
def test_the_numbers_of_x32_end_the_process(target: Target, number: int) -> None:
    x32 = 0x40000000
    assert outcome(lambda: _with_filter_only(target.folder), lambda: syscall(x32 | number)) == "SIGSYS"


def test_the_calls_of_32_bits_end_the_process(target: Target) -> None:
    """There getpid is number 20, which is writev here: a filter that looks at numbers alone would take it for that."""
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\0\0\0\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    assert outcome(lambda: None, call) in ("done", "SIGSEGV")  # kernels without the calls of 32 bits
    assert outcome(lambda: _with_filter_only(target.folder), call) == "SIGSYS"


def test_calls_that_are_younger_than_the_filter_are_said_not_to_exist(target: Target) -> None:
    assert outcome(lambda: _with_filter_only(target.folder), lambda: syscall(1000)) == "ENOSYS"


def test_the_filter_holds_threads_that_were_there_before_it(target: Target) -> None:
    import threading

    def work() -> None:
        go.set()
        thread.join(5)
        raise failures[0]

    def wait() -> None:
        go.wait(5)
        try:
            target.token.read_bytes()
        except OSError as error:
            failures.append(error)

    failures: list[OSError] = []
    go, thread = threading.Event(), threading.Thread(target=wait)

    def confine() -> None:
        _without(landlock, "version", 0)
        lock_in({}, calls.reading(), tcp=False, optional=False, begin=thread.start)

    assert outcome(confine, work) == "EPERM"


def test_landlock_is_not_put_on_beside_other_threads(target: Target) -> None:
    import threading

    def confine() -> None:
        thread = threading.Thread(target=threading.Event().wait, args=(5,), daemon=True)
        thread.start()
        reader.confine(target.folder, optional=False)

    assert "there are others [scanner.confine.refused]" in outcome(confine, lambda: None)


@pytest.mark.parametrize("version", range(1, 7))
def test_every_version_of_landlock_keeps_files_out_of_reach(target: Target, version: int) -> None:
    if landlock.version() < version:
        pytest.skip("this kernel's Landlock is older")

    def confine() -> None:
        _without(landlock, "version", version)
        assert landlock.restrict({target.folder: Access.READ_FILE}, tcp=False) == version

    assert outcome(confine, lambda: escapes.read_token(target)) == "EACCES"
    tcp = outcome(confine, lambda: escapes.connect_ipv4(target))
    assert tcp == ("EACCES" if version >= landlock.NETWORK_SINCE else "done")
    signals = outcome(confine, lambda: escapes.signal_parent(target))
    assert signals == ("EPERM" if version >= landlock.SIGNALS_SINCE else "done")


def test_a_kernel_that_lacks_a_part_of_its_version_gets_an_older_one(target: Target) -> None:
    def confine() -> None:
        def lacking(number: int, *arguments: int) -> int:
            if number == 444 and arguments[1] == 24:
                raise OSError(22, "no scopes here")
            return syscall(number, *arguments)

        landlock.syscall = lacking
        assert landlock.restrict({}, tcp=False) == landlock.SIGNALS_SINCE - 1

    if landlock.version() < landlock.SIGNALS_SINCE:
        pytest.skip("this kernel's Landlock is older")
    assert outcome(confine, lambda: escapes.read_token(target)) == "EACCES"


@pytest.mark.parametrize("confine", [reader.confine, puller.confine, _with_filter_only])
def test_a_locked_process_has_hidden_its_memory_and_gains_no_privilege(target: Target, confine: Confine) -> None:
    install = seccomp.install
    dumpable: list[int] = []
    status: list[int] = []

    def noted(filter_: bytes) -> None:
        """The kernel tells of it while it can still be asked."""
        dumpable.append(syscall(PRCTL, PR_GET_DUMPABLE))
        install(filter_)

    def locked() -> None:
        status.append(os.open("/proc/self/status", os.O_RDONLY))
        seccomp.install = noted
        confine(target.folder, optional=False)

    def work() -> None:
        words = re.findall(r"(NoNewPrivs|Seccomp):\t(\d)", os.read(status[0], 10_000).decode())
        assert dict(words) == {"NoNewPrivs": "1", "Seccomp": "2"}
        assert dumpable == [0]

    assert outcome(locked, work) == "done"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without rights")
@pytest.mark.parametrize("confine", [reader.confine, puller.confine, _with_filter_only])
def test_it_takes_no_right_to_be_locked_in(target: Target, confine: Confine) -> None:
    """As in the pod: no capability, and another user than root."""
    with socket_folder() as outside:
        folder = outside / "scan"
        folder.mkdir()
        for path in (outside, folder):
            os.chown(path, NOBODY, NOBODY)
        (outside / "token").write_bytes(SECRET)
        (outside / "token").chmod(0o644)
        owned = replace(target, folder=folder, token=outside / "token")

        def locked() -> None:
            reader.load_everything()  # of a Python that only root may read, here
            _become_nobody()
            confine(folder, optional=False)

        assert outcome(locked, lambda: escapes.read_token(owned)) in ("EPERM", "EACCES")
        assert outcome(_become_nobody, lambda: escapes.read_token(owned)) == "done"


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@pytest.mark.parametrize("attempt", [escapes.read_parents_memory_as_a_file, escapes.read_parents_memory])
@pytest.mark.parametrize("hidden", [False, True])
def test_memory_that_is_hidden_is_not_read_by_the_same_user(target: Target, attempt: Attempt, hidden: bool) -> None:
    """Between two processes without a lock: what a puller on a kernel without Landlock would meet."""
    if os.geteuid():
        pytest.skip("needs root, to become somebody without rights")

    def become_nobody() -> None:
        _become_nobody()
        prctl(PR_SET_DUMPABLE, 1)  # as after a program was started; Yama, where it is, is not what is tested
        if hidden:
            hide_memory()

    def from_a_child() -> None:
        parent = os.getpid()
        found = outcome(lambda: None, lambda: attempt(replace(target, parent=parent)))
        assert found == ("done" if not hidden else "EACCES" if "file" in attempt.__name__ else "EPERM"), found

    assert outcome(become_nobody, from_a_child) == "done"


def test_without_a_filter_nothing_is_read_unless_that_was_chosen(target: Target) -> None:
    def confine(*, optional: bool) -> None:
        _without(seccomp, "is_available", False)
        reader.confine(target.folder, optional=optional)

    assert "scanner.confine.calls" in outcome(lambda: confine(optional=False), lambda: None)
    assert outcome(lambda: confine(optional=True), lambda: None) == "done"
    with pytest.raises(UnavailableError) as caught:
        require(Protections(calls=False, landlock=6), optional=False)
    assert caught.value.code == "scanner.confine.calls"
    require(Protections(calls=False, landlock=0), optional=True)


def test_other_machines_have_no_filter_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.os, "uname", lambda: os.uname_result(("", "", "", "", "aarch64")))
    assert not seccomp.is_available()


def test_a_folder_without_unnamed_files_is_refused_with_a_way_out() -> None:
    assert "scanner.confine.folder" in outcome(lambda: reader.confine(Path("/proc"), optional=False), lambda: None)


@pytest.mark.parametrize(
    ("protections", "words"),
    [
        (Protections(calls=True, landlock=6), "a filter of system calls; Landlock 6 (files, TCP, signals)"),
        (Protections(calls=True, landlock=3), "a filter of system calls; Landlock 3 (files)"),
        (Protections(calls=True, landlock=0), "a filter of system calls; no Landlock"),
        (Protections(calls=False, landlock=0), "no filter of system calls; no Landlock"),
    ],
)
def test_what_holds_is_said_in_words(protections: Protections, words: str) -> None:
    assert str(protections) == words


def test_numbers_of_calls_are_those_of_the_kernel() -> None:
    if not HEADERS.exists():
        pytest.skip("the kernel's headers are not installed")
    known = {name: int(number) for name, number in re.findall(r"__NR_(\w+) (\d+)", HEADERS.read_text())}
    groups = (calls.MEMORY_AND_OPEN_FILES, calls.BY_VALUE, calls.FILES_BY_NAME, calls.CONVERSATION, calls.ATTACKS)
    for group in groups:
        assert {name: known[name] for name in group} == group


def test_whoever_is_locked_keeps_no_thread_from_hashing(target: Target) -> None:
    import hashlib

    from bastide.enclave.background import BackgroundHash

    def work() -> None:
        piece = bytes(1 << 20)
        for _ in range(3):
            with BackgroundHash(hashlib.sha256()) as one, BackgroundHash(hashlib.sha512()) as two:
                one.update(piece)
                two.update(piece)
                assert one.digest() == hashlib.sha256(piece).digest()
                assert two.digest() == hashlib.sha512(piece).digest()

    assert outcome(lambda: reader.confine(target.folder, optional=False), work) == "done"
