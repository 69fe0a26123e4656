from dataclasses import replace

import pytest

from bastide.node.doctor import examine, is_fit, kernel_version
from bastide.node.finding import Level
from bastide.node.inventory import Ownership
from bastide.node.machine.around import read_facts
from support.nodes import ENCLAVE, FORBIDDEN, PROVISION, plain_node, sgx_node

GOOD, INFO, WARN, BAD, UNSEEN = Level.GOOD, Level.INFO, Level.WARN, Level.BAD, Level.UNSEEN


def _findings(files, **kwargs):
    return {finding.name: finding for finding in examine(read_facts(files), **kwargs)}


def _node(edit):
    files = sgx_node()
    edit(files)
    return files


def test_a_good_node_is_fit_and_has_nothing_bad_or_unseen():
    findings = _findings(sgx_node(), collateral_answer="HTTP 200 from pccs.example")
    assert {finding.level for finding in findings.values()} <= {GOOD, INFO}
    assert is_fit(findings.values())


def test_a_node_without_sgx_is_not_fit_and_says_why_first():
    findings = examine(read_facts(plain_node()))
    assert not is_fit(findings)
    assert (findings[0].name, findings[0].level) == ("node.cpu.sgx", BAD)


@pytest.mark.parametrize("files", [sgx_node(), plain_node()])
def test_always_the_same_checks_in_the_same_order_and_each_bad_one_says_what_to_do(files):
    findings = examine(read_facts(files))
    assert [one.name for one in findings] == [one.name for one in examine(read_facts(sgx_node()))]
    assert all(one.todo for one in findings if one.level in (BAD, WARN))
    assert all(one.meaning and one.seen for one in findings)


def test_nothing_that_is_forbidden_is_called_bad_or_good_but_for_what_is_concluded():
    files = sgx_node()
    files.contents = dict.fromkeys(files.contents, FORBIDDEN)
    files.statuses = dict.fromkeys(files.statuses, FORBIDDEN)
    files.folders = dict.fromkeys(files.folders, FORBIDDEN)
    files.registers = FORBIDDEN
    levels = {one.name: one.level for one in examine(read_facts(files))}
    assert levels["node.cpu.sgx"] is UNSEEN
    assert levels["node.driver"] is UNSEEN
    assert levels["node.device.enclave"] is UNSEEN
    assert levels["node.kubelet.plugins"] is UNSEEN
    assert levels["node.quote.provider"] is UNSEEN


def _drop(mapping_name, *keys):
    def edit(files):
        for key in keys:
            del getattr(files, mapping_name)[key]

    return edit


def _put(mapping_name, key, value):
    return lambda files: getattr(files, mapping_name).update({key: value})


def _cpu(**changes):
    def edit(files):
        registers = dict(files.registers)
        registers |= {
            {"seven": (7, 0), "has": (0x12, 0), "sections": (0x12, 2)}[key]: value for key, value in changes.items()
        }
        files.registers = registers

    return edit


def _all(*edits):
    def edit(files):
        for each in edits:
            each(files)

    return edit


PLUGINS = "/var/lib/kubelet/device-plugins"


@pytest.mark.parametrize(
    ("edit", "name", "level", "words"),
    [
        (_cpu(seven=(0, 1 << 2, 0, 0)), "node.cpu.launch-control", BAD, "locked"),
        (_put("contents", "/proc/cpuinfo", b"flags: fpu"), "node.cpu.enabled", BAD, "does not use it"),
        (_cpu(has=(1, 0, 0, 0)), "node.cpu.edmm", INFO, "SGX1 only"),
        (_put("contents", "/proc/sys/kernel/osrelease", b"5.15.0"), "node.cpu.edmm", WARN, "SGX2, kernel 5.15.0"),
        (_put("contents", "/proc/sys/kernel/osrelease", b"5.4.0"), "node.kernel", WARN, "5.4.0"),
        (_put("contents", "/proc/sys/kernel/osrelease", b"5.15.0"), "node.kernel", INFO, "5.15.0"),
        (_put("contents", "/boot/config-6.8.0-test", b"CONFIG_X86=y"), "node.kernel", BAD, "without X86_SGX"),
        (
            _all(_drop("statuses", "/dev/sgx_enclave", "/dev/sgx_provision"), _put("statuses", "/dev/isgx", ENCLAVE)),
            "node.driver",
            WARN,
            "isgx",
        ),
        (_drop("statuses", "/dev/sgx_enclave"), "node.device.enclave", UNSEEN, "does not show"),
        (_drop("statuses", "/dev/sgx_provision"), "node.device.provision", BAD, "/dev/sgx_provision is missing"),
        (
            _put("statuses", "/dev/sgx_provision", replace(PROVISION, ownership=Ownership(uid=0, gid=0, mode=0o666))),
            "node.device.provision",
            WARN,
            "0666",
        ),
        (
            _put("contents", "/etc/containerd/config.toml", b"device_ownership_from_security_context = false"),
            "node.device.non-root",
            WARN,
            "0:106 0660",
        ),
        (_drop("contents", "/etc/containerd/config.toml"), "node.device.non-root", WARN, "not seen"),
        (_cpu(sections=(1, 0, 1 << 30 | 1, 0)), "node.epc.size", WARN, "the CPU lists"),
        (
            _put("contents", "/sys/fs/cgroup/misc.capacity", b"sgx_epc 100663296"),
            "node.epc.cgroup",
            GOOD,
            "100663296",
        ),
        (_drop("statuses", "/var/run/aesmd/aesm.socket"), "node.quote.aesm", INFO, "no AESM"),
        (_put("contents", "/etc/sgx_default_qcnl.conf", b"{"), "node.quote.provider", BAD, "JSON"),
        (_drop("contents", "/etc/sgx_default_qcnl.conf"), "node.quote.provider", INFO, "no /etc"),
        (
            _put("contents", "/etc/sgx_default_qcnl.conf", b'{"pccs_url":"https://x/","use_secure_cert":false}'),
            "node.quote.provider",
            WARN,
            "use_secure_cert",
        ),
        (
            _put(
                "contents",
                "/etc/sgx_default_qcnl.conf",
                b'{"pccs_url":"https://api.trustedservices.intel.com/sgx/certification/v4/"}',
            ),
            "node.quote.provider",
            WARN,
            "Intel PCS",
        ),
        (_put("folders", PLUGINS, ("bastide-x.sock",)), "node.kubelet.plugins", BAD, "no kubelet.sock"),
        (_put("folders", PLUGINS, ("kubelet.sock",)), "node.kubelet.plugins", INFO, "no socket of"),
        (
            _put("folders", PLUGINS, ("kubelet.sock", "sgx.intel.com-qe.sock", "sgx.sock")),
            "node.kubelet.others",
            WARN,
            "Alibaba",
        ),
        (_put("folders", PLUGINS, ("kubelet.sock",)), "node.kubelet.others", WARN, "remembers sgx.intel.com/enclave"),
        (
            _all(
                _put("contents", "/sys/devices/system/node/node0/x86/sgx_total_bytes", b"17179869184"),
                _drop("contents", "/sys/devices/system/node/node1/x86/sgx_total_bytes"),
            ),
            "node.class",
            INFO,
            "Standard_DC4s_v3",
        ),
    ],
)
def test_each_defect_is_found_by_the_check_of_its_name(edit, name, level, words):
    finding = _findings(_node(edit))[name]
    assert (finding.level, words in finding.seen) == (level, True), finding


@pytest.mark.parametrize(
    ("answer", "level"),
    [(None, INFO), ("HTTP 200 from x", GOOD), ("HTTP 404 from x", BAD), ("no answer from x: refused", BAD)],
)
def test_the_collateral_service_is_judged_by_its_answer(answer, level):
    assert _findings(sgx_node(), collateral_answer=answer)["node.quote.collateral"].level is level


def test_devices_that_everybody_may_open_need_nothing_for_pods_that_are_not_root():
    files = sgx_node()
    del files.contents["/etc/containerd/config.toml"]
    files.statuses["/dev/sgx_enclave"] = replace(ENCLAVE, ownership=Ownership(uid=0, gid=0, mode=0o666))
    assert _findings(files)["node.device.non-root"].level is GOOD


@pytest.mark.parametrize(
    ("release", "version"), [("6.8.0-31-generic", (6, 8)), ("5.4", (5, 4)), ("", None), ("x", None), ("٦.٨", None)]
)
def test_reads_kernel_releases(release, version):
    assert kernel_version(release) == version
