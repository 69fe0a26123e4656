"""From the facts of a node to findings: every "why does my enclave not start here" ends in a named check.

Pure: facts in, findings out, always the same checks in the same order.

Source: Linux Documentation/arch/x86/sgx.rst; Kubernetes docs, "Device Plugins"; Intel device plugins for Kubernetes,
SGX; reference kubernetes.md sections 1 to 4.
"""

import re
from collections.abc import Callable, Iterable

from bastide.node.doctor_pods import PodsSeen, pod_findings
from bastide.node.doctor_services import service_findings
from bastide.node.finding import Finding, Level
from bastide.node.inventory import DeviceNode, DeviceRole, DriverKind, Signal
from bastide.node.machine.facts import NodeFacts
from bastide.units import format_bytes

IN_TREE_SINCE = (5, 11)
NUMA_SINCE = (5, 17)
EDMM_SINCE = (6, 0)

_OTHERS_WRITE = 0o002
_OTHERS_READ_WRITE = 0o006


def examine(
    facts: NodeFacts, *, collateral_answer: str | None = None, pods: PodsSeen | None = None
) -> tuple[Finding, ...]:
    """All findings on a node.

    Args:
        facts: what was seen of it.
        collateral_answer: what the collateral service answered, when it was asked; None: it was not.
        pods: what was seen of its pods; None: nobody looked.
    """
    checks: Iterable[Callable[[NodeFacts], Finding]] = (
        _cpu,
        _launch_control,
        _enabled,
        _dynamic_memory,
        _kernel,
        _driver,
        _enclave_device,
        _provision_device,
        _non_root,
        _epc,
        _epc_cgroup,
    )
    return (
        *(check(facts) for check in checks),
        *service_findings(facts, collateral_answer),
        *pod_findings(pods, facts.inventory.epc_total),
    )


def is_fit(findings: Iterable[Finding]) -> bool:
    """Whether nothing stands in the way of enclaves."""
    return all(finding.level is not Level.BAD for finding in findings)


def kernel_version(release: str) -> tuple[int, int] | None:
    """Major and minor of a kernel release such as ``6.8.0-31-generic``."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})", release, re.ASCII)
    return (int(match[1]), int(match[2])) if match else None


def _cpu(facts: NodeFacts) -> Finding:
    name, cpu = "node.cpu.sgx", facts.inventory.cpu
    model = facts.around.cpu_model or "the CPU"
    if cpu.sgx1:
        return _good(name, f"{model} has SGX", "the processor can run enclaves")
    if why := facts.inventory.why_unseen(Signal.CPUID):
        if cpu_flags_say(facts, "sgx") is None:
            return _unseen(name, why, "look from the node itself, or give the host's root with --root")
        seen = f"the kernel's flags of {model} show no sgx; CPUID itself was not seen: {why}"
        return _bad(name, seen, "no SGX that the kernel uses", _FIRMWARE)
    return _bad(
        name,
        f"{model} does not show SGX",
        "no SGX: enclaves cannot start",
        f"{_FIRMWARE}; or use a node class with SGX",
    )


_FIRMWARE = "enable SGX in the firmware (BIOS), and for a virtual machine in its hypervisor"


def _launch_control(facts: NodeFacts) -> Finding:
    name, cpu = "node.cpu.launch-control", facts.inventory.cpu
    if not cpu.sgx1:
        return _info(name, "no SGX to control", "nothing follows")
    if cpu.flexible_launch_control:
        return _good(name, "flexible", "enclaves of any signer may start")
    return _bad(
        name,
        "locked to Intel's launch key",
        "the kernel's own driver makes no devices on such a CPU",
        "set launch control to unlocked in the firmware; without such a setting the CPU needs the legacy driver",
    )


def _enabled(facts: NodeFacts) -> Finding:
    name = "node.cpu.enabled"
    said = cpu_flags_say(facts, "sgx")
    if said is None:
        return _unseen(name, "flags of the processor in /proc/cpuinfo", "look from the node itself")
    if said or not facts.inventory.cpu.sgx1:
        return _good(name, "CPU and kernel agree", "nothing switches SGX off on the way")
    if facts.inventory.driver in (DriverKind.DCAP_OLD, DriverKind.LEGACY):
        return _info(name, "the kernel does not use SGX itself", "an out-of-tree driver does")
    return _bad(
        name,
        "the CPU has SGX, the kernel does not use it",
        "firmware left SGX locked off, the kernel was started with nosgx, or it was built without X86_SGX",
        f"{_FIRMWARE}; look at /proc/cmdline for nosgx and at the kernel's messages for `sgx:`",
    )


def _dynamic_memory(facts: NodeFacts) -> Finding:
    name, inventory = "node.cpu.edmm", facts.inventory
    if not inventory.cpu.sgx1:
        return _info(name, "no SGX", "nothing follows")
    extras = [
        word
        for word, has in (("KSS", inventory.cpu.key_separation_sharing), ("AEX-Notify", inventory.cpu.aex_notify))
        if has
    ]
    also = f"; also {' and '.join(extras)}" if extras else ""
    if why := inventory.why_unseen(Signal.CPUID):
        return _unseen(name, f"SGX2, KSS, AEX-Notify: {why}", "only CPUID tells")
    if not inventory.cpu.sgx2:
        return _info(name, f"SGX1 only{also}", "enclaves cannot change their memory while they run (no EDMM)")
    version = kernel_version(inventory.kernel)
    if inventory.driver is DriverKind.IN_TREE and version and version < EDMM_SINCE:
        return _warn(
            name,
            f"SGX2, kernel {inventory.kernel}{also}",
            "the CPU could change enclave memory at run time, this kernel cannot",
            "for EDMM (sgx.edmm_enable of Gramine) use Linux 6.0 or later",
        )
    return _good(name, f"SGX2{also}", "enclaves may grow and change their memory (EDMM)")


def _kernel(facts: NodeFacts) -> Finding:
    name, release = "node.kernel", facts.inventory.kernel
    version = kernel_version(release)
    if version is None:
        return _unseen(name, facts.inventory.why_unseen(Signal.KERNEL) or "no release", "look from the node itself")
    options = facts.around.kernel_options
    if version < IN_TREE_SINCE:
        return _warn(
            name, f"Linux {release}", "it has no SGX driver of its own", "use Linux 5.11 or later, best 6.0 or later"
        )
    if options is not None and "X86_SGX=y" not in options:
        return _bad(
            name,
            f"Linux {release}, built without X86_SGX",
            "this kernel cannot do SGX",
            "use a kernel with CONFIG_X86_SGX=y",
        )
    if version < NUMA_SINCE:
        return _info(name, f"Linux {release}", "it does not tell EPC by NUMA node (5.17 does)")
    return _good(name, f"Linux {release}", "recent enough for its own SGX driver")


_DRIVERS = {
    DriverKind.IN_TREE: "the kernel's own driver",
    DriverKind.DCAP: "Intel's DCAP driver, out of tree",
    DriverKind.DCAP_OLD: "an old DCAP driver, out of tree (/dev/sgx/...)",
    DriverKind.LEGACY: "the legacy driver isgx",
}


def _driver(facts: NodeFacts) -> Finding:
    name, driver = "node.driver", facts.inventory.driver
    if driver in (DriverKind.IN_TREE, DriverKind.DCAP):
        return _good(name, _DRIVERS[driver], "it makes /dev/sgx_enclave and /dev/sgx_provision")
    if driver is not DriverKind.NONE:
        return _warn(
            name,
            _DRIVERS[driver],
            "present-day runtimes look for /dev/sgx_enclave; no such driver is maintained",
            "move to Linux 5.11 or later with the kernel's own driver",
        )
    if why := facts.inventory.why_unseen(Signal.DRIVER):
        return _unseen(name, why, "look from the node itself")
    return _bad(name, "none", "nothing serves SGX on this node", _why_no_driver(facts))


def _why_no_driver(facts: NodeFacts) -> str:
    cpu = facts.inventory.cpu
    if not cpu.sgx1:
        return "see node.cpu.sgx"
    if not cpu.flexible_launch_control:
        return "see node.cpu.launch-control"
    return "see node.cpu.enabled and node.kernel; `dmesg | grep sgx:` tells what the driver found"


def _enclave_device(facts: NodeFacts) -> Finding:
    return _device(facts, DeviceRole.ENCLAVE, "node.device.enclave", "create enclaves")


def _provision_device(facts: NodeFacts) -> Finding:
    if facts.inventory.driver is DriverKind.LEGACY:
        return _info(
            "node.device.provision", "the legacy driver has none", "its launch enclave decides on provisioning"
        )
    return _device(facts, DeviceRole.PROVISION, "node.device.provision", "make quotes, in process or by AESM")


def _device(facts: NodeFacts, role: DeviceRole, name: str, use: str) -> Finding:
    node = facts.inventory.device_node(role)
    if node is not None:
        return _owned(name, node, f"whoever may open it can {use}")
    if why := facts.inventory.why_unseen(Signal.DEVICE_NODES):
        todo = "look with the host's /dev: mount the host's root and give it with --root"
        return _unseen(name, why, todo)
    if f"sgx_{role}" in facts.around.kernel_devices:
        return _bad(name, f"the kernel has it, /dev/sgx_{role} is missing", "udev did not make it", "restart udev")
    return _bad(name, f"no /dev/sgx_{role}", f"nobody can {use}", "see node.driver")


def _owned(name: str, node: DeviceNode, meaning: str) -> Finding:
    seen = f"{node.path} {node.ownership or ''} {'{}:{}'.format(*node.number) if node.number else ''}".rstrip()
    if node.role is DeviceRole.PROVISION and node.ownership and node.ownership.mode & _OTHERS_WRITE:
        return _warn(
            name,
            seen,
            "everybody on this node can open it, and so identify the platform for good",
            "give it to a group: chgrp sgx_prv, chmod 0660, by a udev rule",
        )
    return _good(name, seen, meaning)


def _non_root(facts: NodeFacts) -> Finding:
    name, node = "node.device.non-root", facts.inventory.device_node(DeviceRole.ENCLAVE)
    if node is None or node.ownership is None:
        return _info(name, "no device node to look at", "nothing follows")
    owner = node.ownership
    if owner.mode & _OTHERS_READ_WRITE == _OTHERS_READ_WRITE:
        return _good(name, f"{node.path} {owner}", "containers that do not run as root can open it")
    if facts.around.device_ownership:
        return _good(name, "device_ownership_from_security_context", "containerd gives devices to the container's user")
    group = f"supplementalGroups: [{owner.gid}]" if owner.gid and owner.mode & 0o060 == 0o060 else ""
    ways = ["device_ownership_from_security_context = true in containerd's CRI plugin"]
    ways += [f"{group} in the pod's securityContext"] if group else []
    unseen = "" if facts.around.device_ownership is False else " (containerd's configuration was not seen)"
    return _warn(
        name,
        f"{node.path} {owner}{unseen}",
        "a container that does not run as root gets the device and cannot open it (EACCES)",
        " or ".join(ways),
    )


def _epc(facts: NodeFacts) -> Finding:
    name, inventory = "node.epc.size", facts.inventory
    if not inventory.epc:
        why = inventory.why_unseen(Signal.EPC)
        if why and inventory.cpu.sgx1:
            return _unseen(name, why, "look from the node itself")
        if not inventory.cpu.sgx1:
            return _bad(name, "none", "no memory for enclaves", "see node.cpu.sgx")
        return _bad(name, "none", "no memory for enclaves", "reserve processor memory (PRMRR) for SGX in the firmware")
    sections = ", ".join(
        f"{'' if each.numa_node is None else f'NUMA node {each.numa_node}: '}{format_bytes(each.size)}"
        for each in inventory.epc
    )
    cpu_total = sum(each.size for each in facts.around.cpu_epc)
    if cpu_total and inventory.epc_total < cpu_total:
        return _warn(
            name,
            f"{sections}; the CPU lists {format_bytes(cpu_total)}",
            "the kernel uses less EPC than there is",
            "look at the kernel's messages for `sgx:`",
        )
    return _good(name, sections, f"{format_bytes(inventory.epc_total)} of EPC in all")


def _epc_cgroup(facts: NodeFacts) -> Finding:
    name, inventory = "node.epc.cgroup", facts.inventory
    if inventory.epc_cgroup is not None:
        return _good(
            name, f"sgx_epc {inventory.epc_cgroup}", "the kernel knows and can limit the EPC of each container"
        )
    if why := inventory.why_unseen(Signal.MISC_CGROUP):
        return _unseen(name, why, "look from the host's root cgroup")
    return _info(
        name,
        "no sgx_epc in the misc controller",
        "EPC requests are only counted: the kernel neither limits EPC by container nor says who holds it",
    )


def cpu_flags_say(facts: NodeFacts, flag: str) -> bool | None:
    """Whether the kernel uses a CPU feature; None where its flags were not seen."""
    flags = facts.around.kernel_flags
    return None if flags is None else flag in flags


def _good(name: str, seen: str, meaning: str) -> Finding:
    return Finding(name=name, level=Level.GOOD, seen=seen, meaning=meaning)


def _info(name: str, seen: str, meaning: str) -> Finding:
    return Finding(name=name, level=Level.INFO, seen=seen, meaning=meaning)


def _warn(name: str, seen: str, meaning: str, todo: str) -> Finding:
    return Finding(name=name, level=Level.WARN, seen=seen, meaning=meaning, todo=todo)


def _bad(name: str, seen: str, meaning: str, todo: str) -> Finding:
    return Finding(name=name, level=Level.BAD, seen=seen, meaning=meaning, todo=todo)


def _unseen(name: str, why: str, todo: str) -> Finding:
    return Finding(name=name, level=Level.UNSEEN, seen=why, meaning="could not be looked at", todo=todo)
