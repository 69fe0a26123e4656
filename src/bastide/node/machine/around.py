"""What surrounds the SGX hardware of a node: kernel configuration, quote provider, kubelet, container runtime."""

import json
import re
from dataclasses import replace

from bastide.errors import MalformedError
from bastide.node.inventory import Signal
from bastide.node.machine.facts import NodeFacts, Surroundings
from bastide.node.machine.files import NodeFiles
from bastide.node.machine.look import Look
from bastide.node.machine.read import CPUINFO, SYSFS_DEVICES, flags_of, read_cpu, read_inventory
from bastide.node.quoteprovider import QuoteProviderConfig

QUOTE_PROVIDER = "/etc/sgx_default_qcnl.conf"
DEVICE_PLUGINS = "/var/lib/kubelet/device-plugins"
CHECKPOINT = f"{DEVICE_PLUGINS}/kubelet_internal_checkpoint"
CONTAINERD = "/etc/containerd/config.toml"
KERNEL_CONFIG = "/boot/config-"
"""Followed by the kernel's release."""

_OPTIONS = re.compile(r"^CONFIG_((?:X86_SGX|X86_SGX_KVM|CGROUP_MISC|CGROUP_SGX_EPC)=\w+)$", re.MULTILINE)
_MODEL = re.compile(r"^model name\s*:\s*(.{1,200})$", re.MULTILINE)
_OWNERSHIP = re.compile(r"^\s*device_ownership_from_security_context\s*=\s*(true|false)\b", re.MULTILINE)
_MOST_RESOURCES = 200


def read_facts(files: NodeFiles) -> NodeFacts:
    """Everything that diagnosis looks at; never raises."""
    look = Look(files)
    cpu = read_cpu(look)
    inventory = read_inventory(look, cpu)
    cpuinfo = look.text(Signal.CPU_FLAGS, CPUINFO)
    model = _MODEL.search(cpuinfo or "")
    config = look.text(Signal.KERNEL, KERNEL_CONFIG + inventory.kernel) if _is_release(inventory.kernel) else None
    provider, fault = _quote_provider(look)
    around = Surroundings(
        cpu_model=model[1] if model else "",
        kernel_flags=flags_of(cpuinfo),
        kernel_options=None if config is None else kernel_options(config),
        kernel_devices=tuple(name for name, path in SYSFS_DEVICES.items() if look.exists(Signal.DRIVER, [path])),
        cpu_epc=cpu.epc,
        quote_provider=provider,
        quote_provider_fault=fault,
        plugin_sockets=_plugin_sockets(look),
        registered=registered_resources(look.raw(Signal.DEVICE_PLUGINS, CHECKPOINT)),
        device_ownership=_device_ownership(look),
    )
    return NodeFacts(inventory=replace(inventory, unseen=look.unseen), around=around)


def registered_resources(checkpoint: bytes | None) -> tuple[str, ...] | None:
    """Resource names in the kubelet's checkpoint of devices; None where there is none, or another form of it.

    Source: Kubernetes, pkg/kubelet/cm/devicemanager/checkpoint (member Data.RegisteredDevices).
    """
    try:
        tree: object = json.loads(checkpoint or b"null")
    except (ValueError, RecursionError):
        return None
    data = tree.get("Data") if isinstance(tree, dict) else None
    devices = data.get("RegisteredDevices") if isinstance(data, dict) else None
    if not isinstance(devices, dict):
        return None
    return tuple(sorted(str(name) for name in devices))[:_MOST_RESOURCES]


def kernel_options(config: str) -> tuple[str, ...]:
    """Settings of a kernel's configuration that concern SGX, such as ``X86_SGX=y``."""
    return tuple(sorted(_OPTIONS.findall(config)))


def ownership_setting(config: str) -> str | None:
    """The one line of containerd's configuration that matters here."""
    match = _OWNERSHIP.search(config)
    return match[0].strip() if match else None


def _is_release(kernel: str) -> bool:
    return re.fullmatch(r"[\w.+~-]+", kernel, re.ASCII) is not None


def _quote_provider(look: Look) -> tuple[QuoteProviderConfig | None, str]:
    raw = look.raw(Signal.QUOTE_PROVIDER, QUOTE_PROVIDER)
    if raw is None:
        return None, ""
    try:
        return QuoteProviderConfig.parse(raw), ""
    except MalformedError as error:
        return None, error.message


def _plugin_sockets(look: Look) -> tuple[str, ...] | None:
    names = look.names(Signal.DEVICE_PLUGINS, DEVICE_PLUGINS)
    return None if names is None else tuple(name for name in names if name.endswith(".sock"))


def _device_ownership(look: Look) -> bool | None:
    config = look.text(Signal.RUNTIME, CONTAINERD)
    if config is None:
        return None
    setting = ownership_setting(config)
    return setting is not None and setting.endswith("true")
