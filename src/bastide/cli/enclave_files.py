"""Enclave files as a command line names them, and bars that show long work on them."""

import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bastide.cli.files import read_file
from bastide.cli.text import printable
from bastide.enclave.find import read_found
from bastide.enclave.found import SIGNATURE_BESIDE, Found, Libpal
from bastide.enclave.image import EnclaveFile, EnclaveKind
from bastide.enclave.layout import Image
from bastide.enclave.locate import locate
from bastide.enclave.measure import Work, bytes_to_hash
from bastide.enclave.read import read_enclave, read_member
from bastide.errors import ConfigError, MalformedError
from bastide.sgx.sigstruct import SIGSTRUCT_SIZE

_MOST_IN_IMAGE = 100
Advance = Callable[[int], None]
"""Is told how much more is done."""


def map_file(path: Path) -> Image:
    """The content of a file without reading it: the system pages it in where it is looked at.

    Raises:
        ConfigError: ``file.unreadable``.
    """
    try:
        # Open without waiting: nobody may ever write into a FIFO.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                hint = "enclaves are read at many places, so not from a pipe or a device: write it to a file first"
                raise ConfigError("file.unreadable", "expected a regular file", hint=hint, where=str(path))
            if not status.st_size:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        message = f"cannot read it: {error.strerror or error}"
        raise ConfigError("file.unreadable", message, where=str(path)) from error


def load_enclave(
    path: Path, *, sig: Path | None = None, libpal: Path | None = None, look_beside: bool = True
) -> EnclaveFile:
    """Read an enclave file; the ``.sig`` of Gramine and Fortanix is looked for beside it where none is named.

    Raises:
        ConfigError: ``file.unreadable``, ``enclave.sig.shared``.
        MalformedError: what ``read_enclave`` raises.
    """
    image = map_file(path)
    sig = sig or (sig_beside(path, image) if look_beside else None)
    return read_enclave(
        image,
        str(path),
        sig=read_file(str(sig), largest=SIGSTRUCT_SIZE) if sig else None,
        libpal=map_file(libpal) if libpal else None,
    )


class FoundReader:
    """Reads enclaves that were found in images, one after the other, within what one question may cost.

    Args:
        libpal: Gramine's libpal.so, where it is not to be that of the image.
    """

    def __init__(self, libpal: Path | None = None) -> None:
        self._libpal = map_file(libpal) if libpal else None
        self._work = Work()
        self._known: tuple[tuple[Libpal, ...], list[bytes]] = ((), [])

    def read(self, found: Found) -> EnclaveFile:
        """One of them.

        Raises:
            MalformedError: what ``read_found`` and ``read_member`` raise; ``enclave.layout.work``.
        """
        content = read_found(found)
        if found.kind is EnclaveKind.GRAMINE and self._libpal is not None:
            enclave = read_enclave(content, found.path, sig=found.beside, libpal=self._libpal)
        else:
            enclave = read_member(found, content, libpals=self._libpals(found), spend=self._work.spend)
        self._work.spend(bytes_to_hash(enclave))
        return enclave

    def _libpals(self, found: Found) -> list[bytes]:
        """All enclaves of an image have the same."""
        if self._known[0] != found.libpals:
            self._known = found.libpals, [read_found(one) for one in found.libpals]
        return self._known[1]


def load_all_found(found: Sequence[Found], *, libpal: Path | None = None) -> Iterator[tuple[Found, EnclaveFile]]:
    """Read the enclaves of an image.

    Raises:
        MalformedError: ``enclave.image.enclaves`` (more than any image has: each means reading its layer again), and
            what ``FoundReader.read`` raises.
    """
    if len(found) > _MOST_IN_IMAGE:
        message = f"expected at most {_MOST_IN_IMAGE} enclaves in one image, seen {len(found)}"
        raise MalformedError("enclave.image.enclaves", message)
    reader = FoundReader(libpal)
    for one in found:
        yield one, reader.read(one)


def sig_path(path: Path, image: Image) -> Path | None:
    """Where the signature of this file lies when it lies in a file of its own."""
    located = locate(image, str(path))
    suffix = SIGNATURE_BESIDE.get(located.kind) if located is not None else None
    return None if suffix is None else path.with_name(f"{path.name.removesuffix(suffix)}.sig")


def sig_beside(path: Path, image: Image) -> Path | None:
    """The same, if there is such a file.

    Raises:
        ConfigError: ``enclave.sig.shared``.
    """
    sig = sig_path(path, image)
    if sig is None or not sig.is_file():
        return None
    if other := sharing_sig(path, sig):
        message = f"{sig.name} may belong to {path.name} or to {other.name}"
        raise ConfigError("enclave.sig.shared", message, hint="name the right one with --sig", where=str(path))
    return sig


def sharing_sig(path: Path, sig: Path) -> Path | None:
    """Another file beside whose ``.sig`` has the same name: nothing says whose it is."""
    others = (sig.with_suffix(suffix) for suffix in SIGNATURE_BESIDE.values())
    return next((other for other in others if other.name != path.name and other.is_file()), None)


def bytes_in(path: Path) -> int:
    """Bytes of a file, or of all files below a folder: the end of a bar. Faults are left to whoever reads."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum((Path(parent) / name).lstat().st_size for parent, _, names in os.walk(path) for name in names)


@contextmanager
def bar(what: str, total: int, *, in_bytes: bool = False) -> Iterator[Advance]:
    """A bar on standard error that goes away at the end; silent where that is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    words = TextColumn("{task.description}", markup=False)
    with Progress(
        words, BarColumn(), amount, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as shown:
        task = shown.add_task(printable(what), total=total or None)
        yield lambda done: shown.update(task, advance=done)


def _silent(done: int) -> None:
    """Tell nobody."""
    del done
