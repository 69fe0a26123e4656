"""What is known of a node for diagnosis: its inventory and what surrounds it, as values without secrets."""

from dataclasses import dataclass, field

from bastide.node.inventory import EpcSection, NodeInventory
from bastide.node.quoteprovider import QuoteProviderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is around the SGX hardware: kernel, quote provider, kubelet, container runtime. None: not there, or unseen.

    Attributes:
        cpu_model: name of the processor, as the kernel has it.
        kernel_flags: those of ``sgx`` and ``sgx_lc`` that the kernel uses.
        kernel_options: settings of the kernel's configuration that concern SGX, such as ``X86_SGX=y``.
        kernel_devices: SGX devices that the kernel has, whether ``/dev`` shows them or not.
        cpu_epc: EPC sections as CPUID lists them.
        quote_provider: its configuration.
        quote_provider_fault: why the configuration that is there cannot be read; empty where it can.
        plugin_sockets: sockets in the kubelet's device plugin folder.
        registered: resource names for which the kubelet remembers devices.
        device_ownership: whether containerd gives devices to the user that a container runs as.
    """

    cpu_model: str = ""
    kernel_flags: frozenset[str] | None = None
    kernel_options: tuple[str, ...] | None = None
    kernel_devices: tuple[str, ...] = ()
    cpu_epc: tuple[EpcSection, ...] = ()
    quote_provider: QuoteProviderConfig | None = None
    quote_provider_fault: str = ""
    plugin_sockets: tuple[str, ...] | None = None
    registered: tuple[str, ...] | None = None
    device_ownership: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Everything that ``show`` and ``doctor`` look at."""

    inventory: NodeInventory = field(default_factory=NodeInventory)
    around: Surroundings = field(default_factory=Surroundings)
