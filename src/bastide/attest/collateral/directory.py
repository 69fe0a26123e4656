"""Collateral from a directory: one bundle, or as many as it has folders and JSON files; read anew when one changes.

A bundle is a folder with the five parts under fixed names, or one JSON file (``dcap.bundle``). A bundle that cannot be
used after a change stays as it was before, so a half-written update never takes a platform away; what was wrong is told
by :attr:`CollateralDirectory.faults`.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from bastide.attest.collateral.catalogue import Bundle, Catalogue
from bastide.dcap import Collateral, PreparedCollateral
from bastide.dcap.bundle import read_bundle
from bastide.dcap.collateral import MAX_PART_SIZE
from bastide.errors import BastideError, ConfigError, UnavailableError
from bastide.pki.chain import TrustAnchor
from bastide.sgx.quote import Quote, QuoteParts

PARTS = {
    "tcb_info": ("tcb_info.json",),
    "qe_identity": ("qe_identity.json",),
    "pck_crl": ("pck_crl.der", "pck_crl.crl", "pck_crl.pem", "pck_crl.hex"),
    "root_ca_crl": ("root_ca_crl.der", "root_ca_crl.crl", "root_ca_crl.pem", "root_ca_crl.hex"),
    "tcb_signing_chain": ("tcb_signing_chain.pem",),
}
"""Each part of a bundle with the names that its file may have."""

_MOST_BUNDLES = 1000
_BUNDLE_SUFFIX = ".json"
_Stamp = tuple[tuple[str, int, int, int], ...]


class CollateralDirectory:
    """The bundles below ``folder``, judged under ``root``.

    Raises:
        ConfigError: ``collateral.directory.absent``.
    """

    def __init__(self, folder: Path, root: TrustAnchor) -> None:
        if not folder.is_dir():
            raise ConfigError("collateral.directory.absent", "expected a directory of collateral", where=str(folder))
        self._folder = folder
        self._root = root
        self._stamps: dict[str, _Stamp] = {}
        self._bundles: dict[str, Bundle] = {}
        self._faults: dict[str, str] = {}
        self._catalogue = Catalogue(())

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """What is in use."""
        return self._catalogue.bundles

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a bundle of some name is not in use, or is in use as it was before its last change."""
        return dict(self._faults)

    def find(self, quote: Quote, at: datetime, *, number: int | None = None) -> PreparedCollateral | None:
        """See ``CollateralSource``.

        Raises:
            UnavailableError: ``collateral.directory.empty``: there is nothing to judge anybody with.
        """
        if not self.bundles:
            raise UnavailableError(
                "collateral.directory.empty", self.lack, hint="the service's operator has to provide it"
            )
        return self._catalogue.find(quote, at, number=number)

    def at_hand(self, parts: QuoteParts, at: datetime) -> PreparedCollateral | None:
        """See ``CollateralSource``."""
        return self._catalogue.at_hand(parts, at)

    def absence(self, quote: Quote) -> str:
        """See ``CollateralSource``."""
        chain = sha256(quote.certification.data).hexdigest()
        return f"none that fits its PCK certificate (certification data SHA-256 {chain[:16]}...)"

    @property
    def lack(self) -> str:
        """Why having no bundle means not being ready: nothing comes of itself."""
        return "there is no collateral that can be used"

    def refresh(self) -> bool:
        """Read what has changed; blocks on the disk. Says whether anything had changed.

        Raises:
            UnavailableError: ``collateral.directory.unreadable``; what was in use stays so.
        """
        folders = self._folders()
        gone = self._stamps.keys() - folders.keys()
        changed = {
            name: stamp for name, folder in folders.items() if (stamp := _stamp(folder)) != self._stamps.get(name)
        }
        for name in gone:
            del self._stamps[name]
            self._bundles.pop(name, None)
            self._faults.pop(name, None)
        for name, stamp in changed.items():
            self._stamps[name] = stamp
            self._read(name, folders[name])
        if gone or changed:
            self._catalogue = Catalogue(self._bundles.values())
        return bool(gone or changed)

    def _read(self, name: str, folder: Path) -> None:
        try:
            self._bundles[name] = Bundle.of(name, PreparedCollateral.of(_read_bundle(folder), self._root))
            self._faults.pop(name, None)
        except BastideError as error:
            self._faults[name] = str(error)

    def _folders(self) -> dict[str, Path]:
        try:
            if any((self._folder / name).exists() for names in PARTS.values() for name in names):
                return {self._folder.name: self._folder}
            below = sorted(one for one in self._folder.iterdir() if one.is_dir() or one.suffix == _BUNDLE_SUFFIX)
        except OSError as error:
            message = f"cannot list it: {error.strerror}"
            raise UnavailableError("collateral.directory.unreadable", message, where=str(self._folder)) from error
        return {entry.name: entry for entry in below[:_MOST_BUNDLES] if not entry.name.startswith(".")}


def _read_bundle(place: Path) -> Collateral:
    if place.suffix == _BUNDLE_SUFFIX and place.is_file():
        return read_bundle(_read_part(place.parent, (place.name,)))
    return Collateral(**{part: _read_part(place, names) for part, names in PARTS.items()})


def _read_part(folder: Path, names: tuple[str, ...]) -> bytes:
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                return file.read(MAX_PART_SIZE + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError("collateral.part.unreadable", f"cannot read it: {error.strerror}", where=name) from error
    raise ConfigError("collateral.part.absent", f"expected a file {' or '.join(names)}")


def _stamp(place: Path) -> _Stamp:
    """What tells that a file changed: name, time, size, inode."""
    files = [place] if place.suffix == _BUNDLE_SUFFIX else [place / name for names in PARTS.values() for name in names]
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((file.name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
