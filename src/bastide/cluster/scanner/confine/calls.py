"""Which system calls the two processes of a scan may make.

Source: Linux arch/x86/entry/syscalls/syscall_64.tbl (numbers), man-pages section 2 (what each does).
"""

import fcntl
import mmap
import os
from typing import Final

from bastide.cluster.scanner.confine.seccomp import Allowed, Only


def _numbered(table: str) -> dict[str, int]:
    words = table.split()
    return {name: int(number) for number, name in zip(words[::2], words[1::2], strict=True)}


MEMORY_AND_OPEN_FILES: Final = _numbered("""
    0 read 1 write 202 futex 8 lseek 3 close 11 munmap 12 brk 25 mremap 28 madvise 5 fstat 19 readv 20 writev
    17 pread64 295 preadv 327 preadv2 77 ftruncate 24 sched_yield 35 nanosleep 230 clock_nanosleep 228 clock_gettime
    229 clock_getres 39 getpid 186 gettid 318 getrandom 98 getrusage 131 sigaltstack 13 rt_sigaction 14 rt_sigprocmask
    15 rt_sigreturn 219 restart_syscall 60 exit 231 exit_group
""")
BY_VALUE: Final = _numbered("9 mmap 10 mprotect 262 newfstatat 257 openat 302 prlimit64 72 fcntl 234 tgkill 16 ioctl")
"""Calls that one of the processes may make with some values only."""
FILES_BY_NAME: Final = _numbered("""
    2 open 257 openat 4 stat 6 lstat 262 newfstatat 332 statx 21 access 269 faccessat 439 faccessat2 89 readlink
    267 readlinkat 217 getdents64 79 getcwd 83 mkdir 137 statfs 138 fstatfs 9 mmap 10 mprotect
""")
CONVERSATION: Final = _numbered("""
    41 socket 42 connect 44 sendto 45 recvfrom 46 sendmsg 47 recvmsg 307 sendmmsg 48 shutdown 51 getsockname
    52 getpeername 54 setsockopt 55 getsockopt 7 poll 271 ppoll 270 pselect6 63 uname
""")
ATTACKS: Final = _numbered("""
    59 execve 322 execveat 57 fork 58 vfork 101 ptrace 310 process_vm_readv 311 process_vm_writev 440 process_madvise
    434 pidfd_open 438 pidfd_getfd 424 pidfd_send_signal 62 kill 200 tkill 129 rt_sigqueueinfo 297 rt_tgsigqueueinfo
    41 socket 53 socketpair 42 connect 49 bind 50 listen 43 accept 288 accept4
    425 io_uring_setup 426 io_uring_enter 427 io_uring_register 321 bpf 298 perf_event_open 323 userfaultfd
    248 add_key 249 request_key 250 keyctl 304 open_by_handle_at 165 mount 166 umount2 428 open_tree 429 move_mount
    430 fsopen 155 pivot_root 161 chroot 272 unshare 308 setns 175 init_module 313 finit_module 176 delete_module
    246 kexec_load 320 kexec_file_load
""")
"""Calls that neither process has a use for, unless it may make them: whoever makes one has broken out."""

_AT_EMPTY_PATH: Final = 0x1000
_IPV4, _IPV6 = 2, 10
_TCGETS, _FIONREAD, _FIONBIO, _FIOCLEX = 0x5401, 0x541B, 0x5421, 0x5451


def reading() -> Allowed:
    """Calls of a process that reads what it has open already, and makes files without a name for itself."""
    no_code = Only(2, (0,), mmap.PROT_EXEC)
    rules = {
        "mmap": no_code,
        "mprotect": no_code,
        "newfstatat": Only(3, (_AT_EMPTY_PATH,)),
        "ioctl": Only(1, (_TCGETS, _FIOCLEX)),
        # With this flag the kernel makes a file that no path leads to, and opens none that is there.
        "openat": Only(2, (os.O_TMPFILE,), os.O_TMPFILE),
    }
    return dict.fromkeys(MEMORY_AND_OPEN_FILES.values()) | _by_value(rules)


def pulling() -> Allowed:
    """Calls of a process that asks registries and writes files; Landlock says which files."""
    rules = {"ioctl": Only(1, (_TCGETS, _FIOCLEX, _FIONREAD, _FIONBIO))}
    free = MEMORY_AND_OPEN_FILES | FILES_BY_NAME | CONVERSATION
    internet = {CONVERSATION["socket"]: Only(0, (_IPV4, _IPV6))}
    return dict.fromkeys(free.values()) | internet | _by_value(rules)


def deadly(allowed: Allowed) -> list[int]:
    """Those of ``ATTACKS`` that are not allowed."""
    return [number for number in ATTACKS.values() if number not in allowed]


def _by_value(rules: dict[str, Only]) -> dict[int, Only]:
    """Numbered, with what a process may do to itself and to no other: move a limit, or abort as the C library does."""
    of_oneself = {
        "prlimit64": Only(0, (0,)),
        "tgkill": Only(0, (os.getpid(),)),
        "fcntl": Only(1, (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)),
    }
    return {BY_VALUE[name]: only for name, only in (rules | of_oneself).items()}
