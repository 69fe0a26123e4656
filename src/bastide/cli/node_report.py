"""What ``bastide node show`` and ``doctor`` say: for people, and as JSON with stable keys."""

from collections.abc import Sequence

from bastide.cli.screen import Part, Screen
from bastide.node.finding import Finding, Level
from bastide.node.inventory import DeviceNode, NodeInventory, Signal
from bastide.node.machine.facts import NodeFacts
from bastide.units import format_bytes

_STYLES = {
    Level.GOOD: "green",
    Level.INFO: "dim",
    Level.WARN: "yellow",
    Level.BAD: "bold red",
    Level.UNSEEN: "magenta",
}


def facts_json(facts: NodeFacts) -> dict[str, object]:
    """The node as one JSON object; null: not there or not seen, see ``unseen``."""
    inventory, around = facts.inventory, facts.around
    provider = around.quote_provider
    all_of_cpu = inventory.why_unseen(Signal.CPUID) is None
    return {
        "cpu": {
            "model": around.cpu_model,
            "sgx1": inventory.cpu.sgx1,
            "sgx2": inventory.cpu.sgx2 if all_of_cpu else None,
            "flexibleLaunchControl": inventory.cpu.flexible_launch_control,
            "keySeparationSharing": inventory.cpu.key_separation_sharing if all_of_cpu else None,
            "aexNotify": inventory.cpu.aex_notify if all_of_cpu else None,
            "kernelFlags": None if around.kernel_flags is None else sorted(around.kernel_flags),
        },
        "kernel": {"release": inventory.kernel, "options": around.kernel_options},
        "driver": str(inventory.driver),
        "deviceNodes": [_device_json(node) for node in inventory.device_nodes],
        "epc": {
            "bytes": inventory.epc_total,
            "sections": [{"numaNode": each.numa_node, "bytes": each.size} for each in inventory.epc],
            "cgroupBytes": inventory.epc_cgroup,
        },
        "aesm": inventory.aesm.path if inventory.aesm else None,
        "quoteProvider": None
        if provider is None
        else {
            "service": str(provider.service),
            "collateralUrl": provider.collateral_url,
            "pccsUrl": provider.pccs_url,
            "secureCertificates": provider.secure_certificates,
        },
        "kubelet": {"pluginSockets": around.plugin_sockets, "registered": around.registered},
        "unseen": {str(each.signal): each.why for each in inventory.unseen},
    }


def _device_json(node: DeviceNode) -> dict[str, object]:
    owner = node.ownership
    return {
        "role": str(node.role),
        "path": node.path,
        "uid": owner.uid if owner else None,
        "gid": owner.gid if owner else None,
        "mode": f"{owner.mode:04o}" if owner else None,
        "major": node.number[0] if node.number else None,
        "minor": node.number[1] if node.number else None,
    }


def finding_json(finding: Finding) -> dict[str, str]:
    """One finding as a JSON object."""
    return {
        "name": finding.name,
        "level": str(finding.level),
        "seen": finding.seen,
        "meaning": finding.meaning,
        "todo": finding.todo,
    }


def print_facts(screen: Screen, facts: NodeFacts) -> None:
    """The node as a short table."""
    inventory, around = facts.inventory, facts.around
    rows: list[tuple[str, str, Signal]] = [
        ("CPU", f"{around.cpu_model or '?'}: {_features(inventory)}", Signal.CPUID),
        ("kernel", inventory.kernel or "?", Signal.KERNEL),
        ("driver", str(inventory.driver), Signal.DRIVER),
        *(("device", _device(node), Signal.DEVICE_NODES) for node in inventory.device_nodes),
        ("EPC", _epc(inventory), Signal.EPC),
        ("EPC cgroup", _bytes_or_none(inventory.epc_cgroup), Signal.MISC_CGROUP),
        ("AESM", inventory.aesm.path if inventory.aesm else "none", Signal.AESM),
        ("quote provider", _provider(facts), Signal.QUOTE_PROVIDER),
        ("device plugins", ", ".join(around.plugin_sockets or ()) or "none", Signal.DEVICE_PLUGINS),
    ]
    screen.table(("", "seen"), [(name, _or_unseen(inventory, seen, signal)) for name, seen, signal in rows])
    if not inventory.device_nodes:
        screen.line("device nodes: ", _or_unseen(inventory, "none", Signal.DEVICE_NODES))
    for each in inventory.unseen:
        screen.line((f"not seen: {each.signal}: ", "magenta"), each.why, hanging=2)


def print_findings(screen: Screen, findings: Sequence[Finding]) -> None:
    """Each finding with what it means and what to do."""
    for finding in findings:
        screen.line((f"{finding.level:<7}", _STYLES[finding.level]), f"{finding.name}: {finding.seen}", hanging=7)
        screen.line((finding.meaning, "dim"), indent=7)
        if finding.todo:
            screen.line(("do: ", "bold"), finding.todo, indent=7, hanging=4)


def _or_unseen(inventory: NodeInventory, seen: str, signal: Signal) -> Part:
    unseen = inventory.why_unseen(signal) is not None and seen in ("none", "?", "")
    return ("not seen", "magenta") if unseen else seen


def _features(inventory: NodeInventory) -> str:
    cpu = inventory.cpu
    names = (
        ("SGX1", cpu.sgx1),
        ("SGX2", cpu.sgx2),
        ("FLC", cpu.flexible_launch_control),
        ("KSS", cpu.key_separation_sharing),
        ("AEX-Notify", cpu.aex_notify),
    )
    return " ".join(name for name, has in names if has) or "no SGX"


def _device(node: DeviceNode) -> str:
    number = "{}:{}".format(*node.number) if node.number else ""
    return f"{node.path} {node.ownership or ''} {number}".strip()


def _epc(inventory: NodeInventory) -> str:
    if not inventory.epc:
        return "none"
    sections = ", ".join(f"node {each.numa_node}: {format_bytes(each.size)}" for each in inventory.epc)
    return f"{format_bytes(inventory.epc_total)} ({sections})" if len(inventory.epc) > 1 else sections


def _bytes_or_none(size: int | None) -> str:
    return "none" if size is None else format_bytes(size)


def _provider(facts: NodeFacts) -> str:
    config = facts.around.quote_provider
    if facts.around.quote_provider_fault:
        return facts.around.quote_provider_fault
    return f"{config.service}: {config.collateral_url}" if config else "none"
