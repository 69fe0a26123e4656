"""The process that pulls one image: ``python -m bastide.cluster.scanner.puller FOLDER``.

It has the credentials of one registry and the network, and no right in the cluster. It unpacks nothing, and sees no
files but its folder and what asking by name and TLS needs.
"""

import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from bastide.cluster.gate.report import ImageReport
from bastide.cluster.scanner.confine.calls import pulling
from bastide.cluster.scanner.confine.landlock import Access
from bastide.cluster.scanner.confine.lock import lock_in
from bastide.cluster.scanner.fetch import fetch
from bastide.cluster.scanner.job import ScanJob
from bastide.cluster.scanner.scan import Spent
from bastide.cluster.scanner.worker import LARGEST_JOB, work

_READ: Final = Access.READ_FILE | Access.READ_DIR
_FILL: Final = _READ | Access.WRITE_FILE | Access.MAKE_DIR | Access.MAKE_REG | Access.TRUNCATE
_NAMES: Final = ("resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "services", "ld.so.cache")
_LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_CERTIFICATES: Final = ("/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")


def main() -> None:
    """Read a job, pull its image, write what was pulled."""
    job = ScanJob.parse(sys.stdin.buffer.read(LARGEST_JOB))
    folder = Path(sys.argv[1])

    def task(spent: Spent) -> ImageReport:
        wire = job.options.wire()  # certificate authorities are read before the files are given up
        confine(folder, optional=job.unconfined)
        return fetch(job.repository(wire), job.digest, folder, job.limits, spent)

    work(job.digest, job.limits, task)


def confine(folder: Path, *, optional: bool) -> None:
    """Lock this process in.

    Args:
        folder: that it fills.
        optional: go on where there is no filter of system calls.

    Raises:
        UnavailableError: those of ``lock_in``.
    """
    with suppress(OSError):  # has the C library load what it asks name servers with
        socket.getaddrinfo("localhost", None)
    files = dict.fromkeys(_readable(), _READ) | {folder: _FILL}
    lock_in(files, pulling(), tcp=True, optional=optional, begin=lambda: None)


def _readable() -> tuple[Path, ...]:
    """Files that names, certificates and modules are looked up in; nothing of the pod or of a person's home."""
    paths = ssl.get_default_verify_paths()
    trusted = (paths.cafile, paths.capath, paths.openssl_cafile, paths.openssl_capath, *_CERTIFICATES)
    code = (*sys.path, *_LIBRARIES)
    return tuple(Path(one) for one in (*trusted, *code, *(f"/etc/{name}" for name in _NAMES)) if one)


if __name__ == "__main__":
    main()
