"""Gramine enclaves in images: which libpal.so there is the one that a manifest was signed with.

MRENCLAVE covers the manifest and libpal.so, but nothing in either names the other, and images often hold several
libpal.so (for SGX, for ``gramine-direct``). Any file of the image whose content gives the signed MRENCLAVE counts,
wherever it lies: SHA-256 has no two such contents, so it is what the signer measured. Which libpal.so the container
hands to the processor does not matter for that: with another one, EINIT refuses this SIGSTRUCT. What is proven is, as
for every other kind, that the image holds the enclave that was signed; attestation alone proves that it runs.

Source: Gramine documentation, "Gramine-SGX enclave layout"; Intel SDM Vol. 3D, "EINIT" (ENCLAVEHASH).
"""

from collections.abc import Callable, Sequence
from typing import Final

from bastide.enclave import gramine
from bastide.enclave.elf import ElfImage
from bastide.enclave.image import EnclaveFile, parse_sigstruct
from bastide.enclave.layout import Image
from bastide.enclave.measure import bytes_to_hash, measure
from bastide.errors import MalformedError
from bastide.sgx.sigstruct import SigStruct
from bastide.units import MIB, format_bytes

LIBPAL_NAME: Final = "libpal.so"
"""How Gramine installs it."""

LARGEST_LIBPAL: Final = 16 * MIB
"""Bytes of one; those of releases have some 2 MiB."""

MOST_LIBPALS: Final = 4
"""Different ones in one image; each that is tried means measuring the whole enclave."""


def read_with_libpals(
    manifest: Image, *, sig: bytes | None, libpals: Sequence[Image], spend: Callable[[int], object]
) -> EnclaveFile:
    """A Gramine enclave of an image, with a layout where one libpal.so of the image can be told to be its own.

    A single one is taken, so that another measurement than the signed one is seen as such. Of several the first that
    gives the signed MRENCLAVE is. Else there is no layout, and ``EnclaveFile.defect`` says why.

    Args:
        manifest: the ``*.manifest.sgx``.
        sig: the ``.sig`` beside it.
        libpals: content of each different libpal.so of the image.
        spend: is told of bytes before they are hashed; may refuse by raising.

    Raises:
        MalformedError: those of ``gramine.Manifest.parse`` and ``SigStruct.parse``; ``enclave.layout.work``.
    """
    choice = _Choice(gramine.Manifest.parse(manifest), parse_sigstruct(sig) if sig else None)
    if not libpals:
        return choice.none(f"the image has no {LIBPAL_NAME} (of at most {format_bytes(LARGEST_LIBPAL)})")
    if len(libpals) == 1:
        return choice.only(libpals[0])
    return choice.among(libpals, spend)


class _Choice:
    """Of the libpal.so for one manifest."""

    def __init__(self, manifest: gramine.Manifest, sigstruct: SigStruct | None) -> None:
        self._manifest, self._sigstruct = manifest, sigstruct
        self._unfit: list[str] = []

    def none(self, why: str) -> EnclaveFile:
        return gramine.enclave(self._manifest, None, self._sigstruct, defect=why)

    def only(self, libpal: Image) -> EnclaveFile:
        return self._with(libpal) or self.none(f"the only {LIBPAL_NAME} in the image does not fit: {self._unfit[0]}")

    def among(self, libpals: Sequence[Image], spend: Callable[[int], object]) -> EnclaveFile:
        several = f"different files {LIBPAL_NAME} in the image"
        if len(libpals) > MOST_LIBPALS:
            return self.none(f"there are more than {MOST_LIBPALS} {several}: none was tried")
        if self._sigstruct is None:
            return self.none(f"it is not signed, so nothing says which of {len(libpals)} {several} is its own")
        for libpal in libpals:
            # One after the other: a layout holds a copy of the manifest.
            enclave = self._with(libpal)
            if enclave is not None and _gives_the_signed(enclave, spend):
                return enclave
        unfit = f" (unfit: {'; '.join(self._unfit)})" if self._unfit else ""
        return self.none(f"none of {len(libpals)} {several} gives the signed MRENCLAVE{unfit}")

    def _with(self, libpal: Image) -> EnclaveFile | None:
        try:
            return gramine.enclave(self._manifest, ElfImage.parse(libpal), self._sigstruct)
        except MalformedError as error:
            if error.code == "enclave.layout.work":
                raise  # the manifest asks for it, whatever the libpal
            self._unfit.append(f"{error.message} [{error.code}]")
            return None


def _gives_the_signed(enclave: EnclaveFile, spend: Callable[[int], object]) -> bool:
    spend(bytes_to_hash(enclave))
    return all(measured.matches for measured in measure(enclave))
