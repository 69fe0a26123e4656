"""Metrics of the agent, in Prometheus' text format.

Three numbers that must not be mixed: requested (what pods ask for), mapped (address space of enclaves, an upper bound),
resident (what the kernel accounts). A signal that the machine does not give has no samples, rather than zeros.

Source: Prometheus docs, "Metric and label naming", "Writing exporters".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bastide.node.holders import Held
from bastide.node.inventory import DeviceRole, NodeInventory
from bastide.node.keeper import KeeperState
from bastide.node.machine.usage import EpcUsage
from bastide.node.offenders import offenders
from bastide.node.podshere import PodHere
from bastide.units import Bytes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BY_POD = ("namespace", "pod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that metrics are made of, at one moment; None: not known here.

    Attributes:
        inventory: the hardware.
        offered: EPC for pods, in bytes, after the reserve.
        watched: by resource, whether a kubelet listens to its devices.
        keeper: of the Node object.
        pods: of this node.
        held: devices that containers of this node hold, as its kubelet says.
        usage: of EPC, by pod.
        kernel_counters: ``sgx_nr_*`` of drivers that count, by name.
    """

    inventory: NodeInventory
    offered: Bytes
    watched: Mapping[str, bool] = field(default_factory=dict)
    keeper: KeeperState | None = None
    pods: tuple[PodHere, ...] | None = None
    held: tuple[Held, ...] | None = None
    usage: EpcUsage = field(default_factory=EpcUsage)
    kernel_counters: Mapping[str, int] = field(default_factory=dict)


def metrics_text(reading: Reading) -> bytes:
    """All metrics of one reading."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Readings(lambda: reading))
    return generate_latest(registry)


class _Readings(Collector):
    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        reading = self._read()
        yield from _hardware(reading)
        yield from _plugins(reading)
        if reading.keeper is not None:
            yield from _node_object(reading.keeper)
        if reading.pods is not None:
            yield from _pods(reading.pods, reading.usage)
        if reading.held is not None:
            yield _held(reading.held)
        for name, value in sorted(reading.kernel_counters.items()):
            yield GaugeMetricFamily(name, "Pages or enclaves, as the SGX driver counts them.", value)


def _hardware(reading: Reading) -> Iterator[Metric]:
    inventory = reading.inventory
    sections = GaugeMetricFamily(
        "bastide_epc_section_bytes", "Enclave page cache of one section of the CPU.", labels=("numa_node", "section")
    )
    for number, section in enumerate(inventory.epc):
        node = "unknown" if section.numa_node is None else str(section.numa_node)
        sections.add_metric((node, str(number)), section.size)
    yield sections
    yield GaugeMetricFamily("bastide_epc_offered_bytes", "Enclave page cache that pods may ask for.", reading.offered)
    devices = GaugeMetricFamily(
        "bastide_sgx_device_present", "Whether the SGX driver gives this device (1) or not (0).", labels=("device",)
    )
    for role in DeviceRole:
        devices.add_metric((str(role),), inventory.device_node(role) is not None)
    yield devices
    yield GaugeMetricFamily(
        "bastide_aesm_present", "Whether an AESM socket is there (1) or not (0).", inventory.aesm is not None
    )
    driver = {"driver": str(inventory.driver), "kernel": inventory.kernel}
    yield InfoMetricFamily("bastide_sgx_driver", "Driver and kernel of the node.", driver)
    if inventory.epc_cgroup is not None:
        help_text = "Enclave page cache that the kernel's misc controller knows."
        yield GaugeMetricFamily("bastide_epc_cgroup_capacity_bytes", help_text, inventory.epc_cgroup)


def _plugins(reading: Reading) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "bastide_device_plugin_watched",
        "Whether a kubelet listens to this resource (1) or not (0).",
        labels=("resource",),
    )
    for resource, watched in sorted(reading.watched.items()):
        family.add_metric((resource,), watched)
    yield family


def _node_object(state: KeeperState) -> Iterator[Metric]:
    if state.capacity is not None:
        help_text = "Enclave page cache that the node's status says."
        yield GaugeMetricFamily("bastide_epc_capacity_bytes", help_text, state.capacity)
    yield GaugeMetricFamily(
        "bastide_epc_capacity_contested", "Whether somebody else keeps changing the capacity (1).", state.contested
    )
    yield CounterMetricFamily(
        "bastide_epc_capacity_corrections", "Times that the capacity was put right again.", state.corrections
    )
    yield GaugeMetricFamily("bastide_node_ready", "Whether pods can be given what the node has (1).", state.ready)
    help_text = "Whether the API server took what was last asked of it (1)."
    yield GaugeMetricFamily("bastide_node_api_up", help_text, not state.fault)


def _pods(pods: tuple[PodHere, ...], usage: EpcUsage) -> Iterator[Metric]:
    asking = {pod.uid: pod.requested for pod in pods if pod.requested}
    yield _by_pod("bastide_epc_requested_bytes", "Enclave page cache that a pod asks for.", pods, asking)
    if usage.mapped is not None:
        help_text = "Address space of a pod's enclaves: an upper bound of the EPC that it can hold."
        yield _by_pod("bastide_epc_mapped_bytes", help_text, pods, usage.mapped)
    if usage.resident is not None:
        help_text = "Enclave page cache that a pod holds, as the kernel accounts it."
        yield _by_pod("bastide_epc_resident_bytes", help_text, pods, usage.resident)
        over = {each.pod.uid: each.over for each in offenders(pods, usage.resident)}
        yield _by_pod(
            "bastide_epc_over_request_bytes", "Enclave page cache that a pod holds beyond its ask.", pods, over
        )


def _held(held: tuple[Held, ...]) -> Metric:
    family = GaugeMetricFamily(
        "bastide_devices_held",
        "Devices of this resource that a container was given.",
        labels=("namespace", "pod", "container", "resource"),
    )
    for each in held:
        family.add_metric((each.namespace, each.pod, each.container, each.resource), len(each.devices))
    return family


def _by_pod(name: str, help_text: str, pods: Iterable[PodHere], amounts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=_BY_POD)
    for pod in pods:
        if pod.uid in amounts:
            family.add_metric((pod.namespace, pod.name), amounts[pod.uid])
    return family
