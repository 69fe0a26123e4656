"""Findings on what surrounds the hardware: AESM, quote provider, kubelet, other plugins, node class."""

from bastide.catalogue.lookup import ALL_CLASSES
from bastide.node.finding import Finding, Level
from bastide.node.inventory import Signal
from bastide.node.machine.facts import NodeFacts
from bastide.node.quoteprovider import CollateralService
from bastide.pods.resources import DIALECTS, ENCLAVE, PROVISION
from bastide.units import format_bytes

OTHER_PLUGINS = {
    "sgx.intel.com-enclave.sock": "Intel's SGX device plugin (or AKS confcom, built from it)",
    "sgx.intel.com-provision.sock": "Intel's SGX device plugin (or AKS confcom, built from it)",
    "sgx.intel.com-qe.sock": "Intel's SGX device plugin with DCAP infrastructure resources",
    "sgx.intel.com-registration.sock": "Intel's SGX device plugin with DCAP infrastructure resources",
    "sgx.sock": "Alibaba Cloud's SGX device plugin",
}
"""Sockets of other plugins that offer SGX.

Source: intel-device-plugins-for-kubernetes pkg/deviceplugin/server.go; AliyunContainerService/sgx-device-plugin
pkg/device_plugin/server.go.
"""

_KUBELET_SOCKET = "kubelet.sock"
_OUR_PREFIX = "bastide-"


def service_findings(facts: NodeFacts, collateral_answer: str | None) -> tuple[Finding, ...]:
    """Findings on everything around the hardware, always the same checks in the same order."""
    return (
        _aesm(facts),
        _quote_provider(facts),
        _collateral(collateral_answer),
        _kubelet(facts),
        _other_plugins(facts),
        _node_class(facts),
    )


def _aesm(facts: NodeFacts) -> Finding:
    name, inventory = "node.quote.aesm", facts.inventory
    if inventory.aesm:
        return _found(name, Level.GOOD, inventory.aesm.path, "containers may quote through the AESM daemon")
    if why := inventory.why_unseen(Signal.AESM):
        return _unseen(name, why)
    return _found(
        name,
        Level.INFO,
        "no AESM socket",
        "containers that ask for bastide.dev/quote find none here; those that quote in process do not need it",
        "run the AESM daemon where out-of-process quotes are wanted",
    )


def _quote_provider(facts: NodeFacts) -> Finding:
    name, around = "node.quote.provider", facts.around
    if around.quote_provider_fault:
        meaning = "the quote provider ignores a file that it cannot read, and asks a PCCS on this node"
        return _found(
            name, Level.BAD, around.quote_provider_fault, meaning, "mend the JSON of /etc/sgx_default_qcnl.conf"
        )
    if why := facts.inventory.why_unseen(Signal.QUOTE_PROVIDER):
        return _unseen(name, why)
    config = around.quote_provider
    if config is None:
        return _found(
            name,
            Level.INFO,
            "no /etc/sgx_default_qcnl.conf",
            "nothing configures quoting on the node itself; images that quote in process carry their own",
        )
    seen = f"{config.service}: {config.collateral_url}"
    if config.pccs_url != config.collateral_url:
        seen = f"{seen}; certificates from {config.pccs_url}"
    if not config.secure_certificates and config.service is not CollateralService.LOCAL:
        return _found(
            name,
            Level.WARN,
            f"{seen}; use_secure_cert is false",
            "anybody between could answer for the service (collateral itself is signed)",
            "set use_secure_cert to true and trust the service's certificate authority",
        )
    if config.service is CollateralService.INTEL and config.pccs_url == config.collateral_url:
        return _found(
            name,
            Level.WARN,
            seen,
            "Intel's service gives collateral to everybody and certificates of a platform only through a PCCS",
            "set pccs_url to a PCCS; this configuration can verify quotes and not make them",
        )
    return _found(name, Level.GOOD, seen, "the quote provider knows where to ask")


def _collateral(answer: str | None) -> Finding:
    name = "node.quote.collateral"
    if answer is None:
        return _found(name, Level.INFO, "not asked", "--reach asks whether the collateral service answers")
    if answer.startswith("HTTP 2"):
        return _found(name, Level.GOOD, answer, "the collateral service answers")
    return _found(
        name,
        Level.BAD,
        answer,
        "the collateral service does not give what a quote needs",
        "see whether it runs, and what firewall or proxy lies between",
    )


def _kubelet(facts: NodeFacts) -> Finding:
    name, sockets = "node.kubelet.plugins", facts.around.plugin_sockets
    if why := facts.inventory.why_unseen(Signal.DEVICE_PLUGINS):
        return _unseen(name, f"{why}; it takes root")
    if sockets is None:
        return _found(name, Level.INFO, "no device plugin folder", "no kubelet has run here")
    if _KUBELET_SOCKET not in sockets:
        return _found(
            name,
            Level.BAD,
            "no kubelet.sock",
            "no kubelet takes registrations: pods get no devices",
            "see whether the kubelet runs",
        )
    ours = sum(socket.startswith(_OUR_PREFIX) for socket in sockets)
    if not ours:
        return _found(
            name, Level.INFO, "a kubelet, and no socket of `bastide node agent`", "the agent does not run on this node"
        )
    return _found(name, Level.GOOD, f"a kubelet, and {ours} resources of `bastide node agent`", "pods get devices")


def _other_plugins(facts: NodeFacts) -> Finding:
    name, around = "node.kubelet.others", facts.around
    if why := facts.inventory.why_unseen(Signal.DEVICE_PLUGINS):
        return _unseen(name, f"{why}; it takes root")
    sockets = around.plugin_sockets or ()
    others = sorted({OTHER_PLUGINS[socket] for socket in sockets if socket in OTHER_PLUGINS})
    ours = {socket for socket in sockets if socket.startswith(_OUR_PREFIX)}
    known = {dialect.resource for dialect in DIALECTS}
    left = [
        resource
        for resource in around.registered or ()
        if resource in known and f"{_OUR_PREFIX}{resource.replace('/', '-')}.sock" not in ours
    ]
    if others:
        return _found(
            name,
            Level.WARN,
            ", ".join(others),
            "two plugins offer SGX here: for each name the kubelet takes whichever registered last",
            "remove one of them; running pods keep their devices",
        )
    if left:
        level = Level.WARN if ENCLAVE in left or PROVISION in left else Level.INFO
        return _found(
            name,
            level,
            f"the kubelet remembers {', '.join(left)}",
            "another plugin offered these names, or ours did before",
            "if its pods still wait, see which plugin should serve them",
        )
    return _found(name, Level.GOOD, "none", "no other plugin for SGX is known to this kubelet")


def _node_class(facts: NodeFacts) -> Finding:
    name, total = "node.class", facts.inventory.epc_total
    fitting = sorted({each.name for each in ALL_CLASSES if total and total in (each.epc_nominal, each.epc_observed)})
    if not fitting:
        seen = f"{format_bytes(total)} of EPC" if total else "no EPC"
        return _found(name, Level.INFO, seen, "no class of the catalogue has exactly that")
    return _found(
        name, Level.INFO, ", ".join(fitting), f"classes of the catalogue with exactly {format_bytes(total)} of EPC"
    )


def _found(name: str, level: Level, seen: str, meaning: str, todo: str = "") -> Finding:
    return Finding(name=name, level=level, seen=seen, meaning=meaning, todo=todo)


def _unseen(name: str, why: str) -> Finding:
    return _found(name, Level.UNSEEN, why, "could not be looked at", "look from the node itself, as root")
