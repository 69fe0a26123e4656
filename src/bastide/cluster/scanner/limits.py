"""How much looking into one image may cost."""

from dataclasses import dataclass

from bastide.enclave.layers import Limits
from bastide.units import GIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """How much one image may cost. Sizes in bytes.

    Attributes:
        image: all layers and configs of all its linux/amd64 manifests, packed: what is on disk at once.
        layer: one layer, packed.
        layers: of one manifest.
        unpacked: all layers of one manifest, unpacked.
        ratio: unpacked per packed byte of one layer of more than 256 MiB unpacked.
        entries: files of all layers of one manifest.
        window: of a zstd frame.
        file: one ELF file.
        memory: that each process of the scan may take beside what the interpreter has.
        seconds: all that is asked of the registry.
        cpu: seconds of CPU time of each process.
    """

    image: int = 4 * GIB
    layer: int = 2 * GIB
    layers: int = 128
    unpacked: int = 32 * GIB
    ratio: int = 200
    entries: int = 1_000_000
    window: int = 32 * MIB
    file: int = 2 * GIB
    memory: int = 1536 * MIB
    seconds: float = 600.0
    cpu: int = 600

    @property
    def reading(self) -> Limits:
        """For reading the layers."""
        return Limits(
            unpacked=self.unpacked,
            entries=self.entries,
            layers=self.layers,
            ratio=self.ratio,
            window=self.window,
            file=self.file,
        )
