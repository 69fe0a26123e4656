import re
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bastide.node.described import WITHOUT_SGX, sgx_inventory
from bastide.node.exporter import Reading, metrics_text
from bastide.node.holders import Held
from bastide.node.inventory import EpcSection
from bastide.node.keeper import KeeperState
from bastide.node.machine.usage import EpcUsage
from bastide.node.podshere import PodHere
from bastide.units import MIB, Bytes

POD = PodHere(uid="u-1", namespace="team", name="app", requested=Bytes(10 * MIB))
PLAIN = PodHere(uid="u-2", namespace="team", name='odd"\n', requested=Bytes(0))


def _samples(reading):
    families = text_string_to_metric_families(metrics_text(reading).decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def _full():
    return Reading(
        inventory=sgx_inventory(Bytes(64 * MIB), Bytes(32 * MIB)),
        offered=Bytes(80 * MIB),
        watched={"sgx.intel.com/enclave": True, "bastide.dev/quote": False},
        keeper=KeeperState(capacity=Bytes(80 * MIB), ready=True, corrections=3),
        pods=(POD, PLAIN),
        usage=EpcUsage(mapped={"u-1": Bytes(1 << 30)}, resident={"u-1": Bytes(12 * MIB), "u-2": Bytes(MIB)}),
        held=(
            Held(
                namespace="team", pod="app", container="main", resource="sgx.intel.com/enclave", devices=("e-1", "e-2")
            ),
        ),
        kernel_counters={"sgx_nr_free_pages": 7},
    )


def test_tells_hardware_offer_and_node_object():
    samples = _samples(_full())
    assert samples["bastide_epc_section_bytes", ("numa_node", "1"), ("section", "1")] == 32 * MIB
    assert samples[("bastide_epc_offered_bytes",)] == 80 * MIB
    assert samples[("bastide_epc_capacity_bytes",)] == 80 * MIB
    assert samples[("bastide_epc_capacity_corrections_total",)] == 3
    assert samples[("bastide_epc_capacity_contested",)] == 0
    assert samples["bastide_sgx_device_present", ("device", "enclave")] == 1
    assert samples["bastide_device_plugin_watched", ("resource", "bastide.dev/quote")] == 0
    assert samples[("sgx_nr_free_pages",)] == 7


def test_requested_mapped_and_resident_are_kept_apart():
    samples = _samples(_full())
    app = (("namespace", "team"), ("pod", "app"))
    assert samples["bastide_epc_requested_bytes", *app] == 10 * MIB
    assert samples["bastide_epc_mapped_bytes", *app] == 1 << 30
    assert samples["bastide_epc_resident_bytes", *app] == 12 * MIB
    assert samples["bastide_epc_over_request_bytes", *app] == 2 * MIB
    assert ("bastide_epc_requested_bytes", ("namespace", "team"), ("pod", 'odd"\n')) not in samples
    assert samples["bastide_epc_over_request_bytes", ("namespace", "team"), ("pod", 'odd"\n')] == MIB


def test_tells_which_container_was_given_how_many_devices():
    where = (("container", "main"), ("namespace", "team"), ("pod", "app"), ("resource", "sgx.intel.com/enclave"))
    assert _samples(_full())["bastide_devices_held", *where] == 2


def test_what_is_not_known_has_no_samples_rather_than_zeros():
    names = {key[0] for key in _samples(Reading(inventory=WITHOUT_SGX, offered=Bytes(0)))}
    for absent in ("requested", "mapped", "resident", "over_request", "capacity", "cgroup", "section"):
        assert not any(name.startswith(f"bastide_epc_{absent}") for name in names), names
    assert "bastide_devices_held" not in names
    without_usage = {key[0] for key in _samples(Reading(inventory=WITHOUT_SGX, offered=Bytes(0), pods=(POD,)))}
    assert "bastide_epc_requested_bytes" in without_usage
    assert not without_usage & {"bastide_epc_mapped_bytes", "bastide_epc_resident_bytes"}


def test_a_section_whose_numa_node_nobody_knows_says_so():
    reading = Reading(
        inventory=WITHOUT_SGX.__class__(epc=(EpcSection(numa_node=None, size=Bytes(MIB)),)), offered=Bytes(0)
    )
    assert _samples(reading)["bastide_epc_section_bytes", ("numa_node", "unknown"), ("section", "0")] == MIB


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian package prometheus)")
def test_promtool_has_nothing_to_say_of_the_metrics():
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics_text(_full()), capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_every_metric_has_help_and_a_name_with_its_unit():
    text = metrics_text(_full()).decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    names = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    assert set(helps) == {name for name, _ in names}
    for name, kind in names:
        assert kind in ("gauge", "counter")
        assert (kind == "counter") == name.endswith("_total")
        assert helps[name].endswith(".")
        assert re.fullmatch(r"(bastide|sgx)_[a-z_]+", name)
