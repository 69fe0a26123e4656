"""MRENCLAVE of an enclave file, computed again from its content. Memory does not grow with the enclave.

Whether the signature is valid and whether the measurement is the signed one are two questions with two answers: a valid
SIGSTRUCT beside other code says nothing about that code.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bastide.enclave.image import EnclaveBlock, EnclaveFile
from bastide.enclave.layout import MAX_HASHED, EnclaveLayout
from bastide.errors import MalformedError
from bastide.sgx.types import MrEnclave


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What measuring one block gave.

    Attributes:
        block: the block.
        mr_enclave: as computed; None where it cannot be computed from the file.
        signature_valid: whether the RSA signature over SIGSTRUCT is right; None when not signed.
        matches: whether ``mr_enclave`` is the signed value; None when either is missing.
    """

    block: EnclaveBlock
    mr_enclave: MrEnclave | None
    signature_valid: bool | None
    matches: bool | None


def measure(enclave: EnclaveFile, *, progress: Callable[[int], object] | None = None) -> tuple[Measured, ...]:
    """Measure every block of a file; equal layouts are hashed once.

    Args:
        enclave: as ``read_enclave`` gave it.
        progress: gets the number of pages done since it was called last; all are ``pages_to_measure``.

    Raises:
        MalformedError: ``enclave.layout.work``: all blocks together are more than one enclave may hash.
    """
    Work().spend(bytes_to_hash(enclave))
    known: list[tuple[EnclaveLayout, MrEnclave]] = []
    found = []
    for block in enclave.blocks:
        sigstruct, mr_enclave = block.sigstruct, None
        if block.layout is not None:
            mr_enclave = next((value for layout, value in known if layout == block.layout), None)
            if mr_enclave is None:
                mr_enclave = block.layout.measure(progress=progress).digest()
                known.append((block.layout, mr_enclave))
        found.append(
            Measured(
                block=block,
                mr_enclave=mr_enclave,
                signature_valid=None if sigstruct is None else sigstruct.signature_is_valid(),
                matches=None if sigstruct is None or mr_enclave is None else sigstruct.enclave_hash == mr_enclave,
            )
        )
    return tuple(found)


def pages_to_measure(enclave: EnclaveFile) -> int:
    """Pages that ``measure`` goes through: the end of a progress bar."""
    return sum(layout.pages for layout in _layouts(enclave))


def bytes_to_hash(enclave: EnclaveFile) -> int:
    """Bytes that ``measure`` hashes."""
    return sum(layout.hashed for layout in _layouts(enclave))


class Work:
    """How many bytes one question about several enclaves may hash: ``MAX_HASHED`` in all."""

    def __init__(self) -> None:
        self._hashed = 0

    def spend(self, hashed: int) -> None:
        """Take up ``hashed`` bytes more.

        Raises:
            MalformedError: ``enclave.layout.work``.
        """
        self._hashed += hashed
        if self._hashed > MAX_HASHED:
            message = f"measuring this hashes {self._hashed} bytes in all, more than the limit of {MAX_HASHED}"
            hint = "the sizes in the files are wrong, or made to stall"
            raise MalformedError("enclave.layout.work", message, hint=hint)


def _layouts(enclave: EnclaveFile) -> list[EnclaveLayout]:
    layouts: list[EnclaveLayout] = []
    for block in enclave.blocks:
        if block.layout is not None and block.layout not in layouts:
            layouts.append(block.layout)
    return layouts


def write_sgxs(block: EnclaveBlock, write: Callable[[bytes], object]) -> MrEnclave:
    """Write the measured stream (``.sgxs``) of a block piece by piece; its SHA-256 is the MRENCLAVE returned.

    Raises:
        MalformedError: ``enclave.measure.impossible``.
    """
    if block.layout is None:
        raise MalformedError(
            "enclave.measure.impossible", f"the layout of {block.name} cannot be computed from this file"
        )
    return block.layout.measure(sink=write).digest()
