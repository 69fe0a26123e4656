"""Evidence that a command line names: a quote in any container, a folder of collateral, a root, an instant."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bastide.cli.files import STDIN, name_of, read_file
from bastide.dcap.bundle import read_bundle
from bastide.dcap.collateral import MAX_PART_SIZE, Collateral
from bastide.dcap.containers import LARGEST_CONTAINER, Unwrapped, unwrap
from bastide.dcap.document import MAX_DOCUMENT_SIZE
from bastide.errors import ConfigError, MalformedError
from bastide.pki.chain import INTEL_ROOT, MAX_PEM, TrustAnchor

_PARTS = ("tcb_info", "qe_identity", "pck_crl", "root_ca_crl", "tcb_signing_chain")
_ENDINGS = (".json", ".der", ".crl", ".pem", ".hex", "")


def read_quote(argument: str) -> Unwrapped:
    """The quote in a file or on standard input.

    Raises:
        ConfigError: ``file.unreadable``.
        MalformedError: ``file.too-large``, ``quote.container.*``.
    """
    with placed(argument):
        return unwrap(_read(argument, LARGEST_CONTAINER))


def read_collateral(path: str) -> Collateral:
    """The five parts in a folder: ``tcb_info.json``, ``qe_identity.json``, ``pck_crl.der``, ``root_ca_crl.der`` and
    ``tcb_signing_chain.pem``; CRLs may also be PEM or hex. Or a file with all of them: a bundle, or dcap-qvl's JSON.

    Raises:
        ConfigError: ``collateral.folder``, ``file.unreadable``.
        MalformedError: ``file.too-large``, ``collateral.bundle.*``.
    """
    if not Path(path).is_dir():  # a pipe is as good as a file
        return _read_bundle(path)
    files = {part: _find(Path(path), part) for part in _PARTS}
    return Collateral(**{part: read_file(str(file), largest=MAX_PART_SIZE) for part, file in files.items()})


def _read_bundle(argument: str) -> Collateral:
    with placed(argument):
        return read_bundle(_read(argument, MAX_DOCUMENT_SIZE))


def read_root(argument: str | None) -> TrustAnchor:
    """Intel's root key, or the one in a PEM file: that of a simulation.

    Raises:
        ConfigError: ``file.unreadable``.
        MalformedError: ``file.too-large``, ``pki.anchor.*``.
    """
    if argument is None:
        return INTEL_ROOT
    with placed(argument):
        return TrustAnchor.from_pem(_read(argument, MAX_PEM))


def read_time(text: str | None) -> datetime:
    """An instant such as ``2026-11-23T12:00:00Z``; now where none is given.

    Raises:
        ConfigError: ``cli.time``: it is none, or says no time zone.
    """
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
        instant = None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):  # no date, or one that is before the first or after the last year in UTC
        instant = None
    if instant is None:
        raise ConfigError(
            "cli.time",
            f"expected an instant with its time zone, seen {text[:40]!r}",
            hint="write it as 2026-11-23T12:00:00Z",
        )
    return instant


def _find(folder: Path, part: str) -> Path:
    found = next((file for ending in _ENDINGS if (file := folder / f"{part}{ending}").is_file()), None)
    if found is None:
        raise ConfigError(
            "collateral.folder",
            f"expected {', '.join(_PARTS)}, each in a file of that name; no {part}",
            hint="name the folder of one set of collateral",
            where=str(folder),
        )
    return found


def refuse_second_stdin(*arguments: str | None) -> None:
    """Standard input can be read once.

    Raises:
        ConfigError: ``cli.stdin``: more than one of ``arguments`` is ``-``.
    """
    if arguments.count(STDIN) > 1:
        raise ConfigError("cli.stdin", f"expected one {STDIN}, seen {arguments.count(STDIN)}", hint="name files")


@contextmanager
def placed(argument: str) -> Iterator[None]:
    """Errors about a file's content say which file."""
    name = name_of(argument)
    try:
        yield
    except MalformedError as error:
        where = name if error.where in (None, "", name) else f"{name}: {error.where}"
        raise MalformedError(error.code, error.message, hint=error.hint, where=where) from None


def _read(argument: str, largest: int) -> bytes:
    """A file that is one thing: no part of it would do, nor would the files of a folder."""
    try:
        return read_file(argument, largest=largest)
    except MalformedError as error:
        smaller = "check the path: what is asked for here is smaller"
        raise MalformedError(error.code, error.message, hint=smaller, where=error.where) from None
    except ConfigError as error:
        hint = "name a file" if Path(argument).is_dir() else error.hint
        raise ConfigError(error.code, error.message, hint=hint, where=error.where) from None
