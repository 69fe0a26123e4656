"""The process that looks into one image: ``python -m bastide.cluster.scanner.reader FOLDER``.

All that strangers packed is unpacked and parsed here. Before the first byte of it is read, the process has opened the
files that it will read, and given up all others, the network, and every way to another process. It never had a
credential.
"""

import codecs
import hashlib
import os
import resource
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from bastide.cluster.gate.report import ImageReport
from bastide.cluster.scanner.confine import seccomp
from bastide.cluster.scanner.confine.calls import reading
from bastide.cluster.scanner.confine.landlock import Access
from bastide.cluster.scanner.confine.lock import lock_in
from bastide.cluster.scanner.read import read
from bastide.cluster.scanner.read_job import ReadJob
from bastide.cluster.scanner.scan import Spent
from bastide.cluster.scanner.worker import LARGEST_JOB, work
from bastide.enclave.background import keep_threads
from bastide.enclave.blobs import OpenFiles
from bastide.errors import UnavailableError

_PUT_ASIDE: Final = Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE
_STREAMS: Final = 2
"""Hashed at a time: a layer as it is packed, and unpacked."""
_LATE_MODULES: Final = ("zstandard", "_strptime", "traceback")
_LATE_ENCODINGS: Final = ("ascii", "latin-1", "utf-8", "utf-16", "utf-32", "unicode_escape")


def main() -> None:
    """Read a job, look into its image, write a report."""
    job = ReadJob.parse(sys.stdin.buffer.read(LARGEST_JOB))
    folder = Path(sys.argv[1])

    def task(spent: Spent) -> ImageReport:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        files = OpenFiles(folder)
        confine(folder, optional=job.unconfined)
        return read(files, job.digest, job.manifests, job.limits.reading, spent)

    work(job.digest, job.limits, task)


def confine(folder: Path, *, optional: bool) -> None:
    """Lock this process in.

    Args:
        folder: where it may put files without a name aside.
        optional: go on where there is no filter of system calls.

    Raises:
        UnavailableError: ``scanner.confine.folder``, and those of ``lock_in``.
    """
    load_everything()
    tempfile.tempdir = str(folder)
    if seccomp.is_available():
        _require_unnamed_files(folder)
    lock_in({folder: _PUT_ASIDE}, reading(), tcp=False, optional=optional, begin=lambda: keep_threads(_STREAMS))


def load_everything() -> None:
    """Import and set up what is else imported at its first use: no file can be opened later."""
    for module in _LATE_MODULES:
        with suppress(ImportError):  # without zstandard, layers that need it are refused by name
            import_module(module)
    for encoding in _LATE_ENCODINGS:
        codecs.lookup(encoding)
    for algorithm in ("sha256", "sha512"):
        hashlib.new(algorithm).digest()


def _require_unnamed_files(folder: Path) -> None:
    """A large file is put aside on disk, and the filter lets no file be opened or made that has a name."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        message = f"expected a file system that makes files without a name (O_TMPFILE), seen: {error.strerror}"
        hint = "give --work a folder on ext4, xfs, btrfs or tmpfs"
        raise UnavailableError("scanner.confine.folder", message, hint=hint, where=str(folder)) from error


if __name__ == "__main__":
    main()
