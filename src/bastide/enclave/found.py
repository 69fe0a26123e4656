"""What a search gives: enclaves, with the files that belong to them joined.

The SIGSTRUCT of Gramine and Fortanix lies in a file beside, and Gramine's libpal.so anywhere in the same image.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bastide.enclave.examine import Signature
from bastide.enclave.image import EnclaveKind
from bastide.enclave.libpal import MOST_LIBPALS
from bastide.sgx.types import MrSigner

SIGNATURE_BESIDE: Final = {EnclaveKind.GRAMINE: ".manifest.sgx", EnclaveKind.FORTANIX: ".sgxs"}
"""Kinds whose SIGSTRUCT lies in a file ``.sig`` beside, with the suffix that it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file, and where to read it again.

    Attributes:
        path: in an image from its root (``/usr/lib/...``); else as a path on this machine.
        size: bytes of the file.
        source: the file, folder or archive that was looked at.
        layer: digest of the layer that holds the file.
        place: image and layer by number and offset of the content in the unpacked layer.
    """

    path: str
    size: int
    source: Path
    layer: str | None = None
    place: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Libpal(Content):
    """A file that may be the libpal.so of a Gramine enclave.

    Attributes:
        sha256: of its content.
    """

    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Content):
    """An enclave, or a SIGSTRUCT for one.

    Attributes:
        kind: which SDK's.
        signatures: SIGSTRUCTs in it; for Gramine and Fortanix those of the ``.sig`` file beside it.
        digests: of the image, see ``oci.Image``; empty outside of images and for root file systems.
        names: references that the image store gives the image.
        libpals: for Gramine the different ones in the image, in order of path; at most one more than are tried.
    """

    kind: EnclaveKind
    signatures: tuple[Signature, ...]
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    libpals: tuple[Libpal, ...] = ()

    @property
    def signer(self) -> MrSigner | None:
        """MRSIGNER of the first good signature; None when there is none."""
        return next((found.sigstruct.mr_signer for found in self.signatures if found.valid), None)

    @property
    def beside(self) -> bytes | None:
        """The ``.sig`` file that was joined to it; None where there is none."""
        joined = self.kind in SIGNATURE_BESIDE and self.signatures
        return self.signatures[0].sigstruct.build() if joined else None


def joined(contents: Sequence[Found | Libpal]) -> Iterator[Found]:
    """The enclaves of one image or folder, with what belongs to them.

    ``X.sig`` joins the ``X.manifest.sgx`` or ``X.sgxs`` that it signs, if not both are there.
    """
    found = [one for one in contents if isinstance(one, Found)]
    libpals = _different([one for one in contents if isinstance(one, Libpal)])
    beside = {entry.path: entry for entry in found if entry.kind is EnclaveKind.SIGSTRUCT}
    signed = {
        entry.path: sig
        for entry in found
        if entry.kind in SIGNATURE_BESIDE
        and (sig := f"{entry.path.removesuffix(SIGNATURE_BESIDE[entry.kind])}.sig") in beside
    }
    shared = Counter(signed.values())
    owned = {path: beside[sig] for path, sig in signed.items() if shared[sig] == 1}
    taken = {sig.path for sig in owned.values()}
    for entry in found:
        if entry.path not in taken:
            yield replace(
                entry,
                signatures=owned.get(entry.path, entry).signatures,
                libpals=libpals if entry.kind is EnclaveKind.GRAMINE else (),
            )


def _different(libpals: Sequence[Libpal]) -> tuple[Libpal, ...]:
    """One of each content, the first by path."""
    first: dict[bytes, Libpal] = {}
    for one in libpals:
        first.setdefault(one.sha256, one)
    return tuple(first.values())[: MOST_LIBPALS + 1]
