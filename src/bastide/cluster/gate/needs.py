"""Does a container ask for as much EPC as its enclave takes? Findings with numbers; they never keep a pod out.

Source: reference kubernetes.md section 7 (point 16: enclave size and EPC request are confused).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bastide.pods.findings import Finding, warn
from bastide.pods.request import ContainerAsk
from bastide.pods.resources import EPC
from bastide.units import MIB, Bytes, format_bytes, format_quantity

FAR_ABOVE: Final = 4
"""How many times what all enclaves of an image take together is far too much."""
_NOT_WORTH_A_WORD: Final = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveNeed:
    """EPC that one process of an enclave takes, in bytes.

    Attributes:
        path: of the enclave in its image.
        loaded: once loaded, with SECS and version arrays.
        most: with all that may be added later (EDMM).
    """

    path: str
    loaded: Bytes
    most: Bytes


def epc_findings(ask: ContainerAsk, needs: Sequence[EnclaveNeed]) -> Iterator[Finding]:
    """Warnings ``epc.below-enclave`` and ``epc.above-enclave`` about one container.

    Which enclave of several is started cannot be seen: less than the smallest takes is too little for any, and more
    than four times what all take together (and 64 MiB more) is too much for each.

    Args:
        ask: what the container asks of SGX.
        needs: of the enclaves in its image; empty where nothing is known.
    """
    if not ask.epc or not needs:
        return
    path = (*ask.path, "resources", "limits", EPC)
    least, together = min(needs, key=lambda need: need.loaded), sum(need.most for need in needs)
    if ask.epc < least.loaded:
        share = least.loaded / ask.epc - 1
        yield warn(
            "epc.below-enclave",
            path,
            f"container {ask.name!r} asks for {format_bytes(ask.epc)} of EPC; {least.path} takes"
            f" {format_bytes(least.loaded)} once loaded, {share:.0%} more: it takes the rest from its neighbours",
            f"ask for {_whole_mib(least.loaded)} for each process that runs it",
        )
    elif ask.epc > FAR_ABOVE * together and ask.epc - together >= _NOT_WORTH_A_WORD:
        yield warn(
            "epc.above-enclave",
            path,
            f"container {ask.name!r} asks for {format_bytes(ask.epc)} of EPC; all enclaves of its image take"
            f" {format_bytes(together)}, {together / ask.epc:.0%} of that: no other pod can use the rest",
            f"ask for {_whole_mib(together)} for each process that runs an enclave",
        )


def _whole_mib(size: int) -> str:
    return format_quantity(-(-size // MIB) * MIB)
