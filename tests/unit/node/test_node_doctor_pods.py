import pytest

from bastide.node.doctor_pods import NAMES, PodsSeen, pod_findings
from bastide.node.finding import Level
from bastide.node.holders import Held
from bastide.node.machine.usage import EpcUsage
from bastide.node.podshere import PodHere
from bastide.units import MIB, Bytes

APP = PodHere(uid="u-1", namespace="team", name="app", requested=Bytes(10 * MIB))
PLAIN = PodHere(uid="u-2", namespace="team", name="plain", requested=Bytes(0))
EPC = Bytes(64 * MIB)


def _held(pod, resource="sgx.intel.com/enclave", count=1):
    devices = tuple(f"d-{n}" for n in range(count))
    return Held(namespace="team", pod=pod, container="main", resource=resource, devices=devices)


def _found(held=(), pods=(), usage=None, epc=EPC):
    seen = PodsSeen(held=held, pods=pods, usage=usage or EpcUsage())
    return {finding.name: finding for finding in pod_findings(seen, epc)}


@pytest.mark.parametrize("seen", [None, PodsSeen(held=(), pods=()), PodsSeen(held="why", pods="why")])
def test_always_the_same_checks_in_the_same_order(seen):
    assert tuple(finding.name for finding in pod_findings(seen, EPC)) == NAMES


def test_names_who_holds_what():
    finding = _found(held=(_held("app", count=2), _held("app", "bastide.dev/quote"), _held("b")))["node.pods.devices"]
    assert finding.level is Level.INFO
    assert finding.seen == (
        "team/app (main: sgx.intel.com/enclave x 2, main: bastide.dev/quote x 1); "
        "team/b (main: sgx.intel.com/enclave x 1)"
    )


def test_names_who_asks_for_how_much_epc():
    finding = _found(pods=(APP, PLAIN))["node.pods.epc"]
    assert (finding.level, finding.seen) == (Level.GOOD, "10 MiB of 64 MiB: team/app 10 MiB")


def test_more_epc_promised_than_there_is_is_a_warning():
    assert _found(pods=(APP,), epc=Bytes(9 * MIB))["node.pods.epc"].level is Level.WARN


@pytest.mark.parametrize(
    ("held", "level"),
    [
        ((_held("app"),), Level.GOOD),
        ((_held("app"), _held("plain")), Level.WARN),
        ((_held("plain", "bastide.dev/quote"),), Level.GOOD),
    ],
)
def test_a_pod_with_the_enclave_device_and_no_epc_uses_what_nobody_counts(held, level):
    finding = _found(held=held, pods=(APP, PLAIN))["node.pods.uncounted"]
    assert finding.level is level
    assert ("team/plain" in finding.seen) == (level is Level.WARN)


@pytest.mark.parametrize(
    ("usage", "level", "words"),
    [
        (EpcUsage(), Level.INFO, "the kernel does not tell"),
        (EpcUsage(mapped={"u-1": Bytes(1 << 40)}), Level.INFO, "the kernel does not tell"),
        (EpcUsage(resident={"u-1": Bytes(10 * MIB)}), Level.GOOD, "none"),
        (EpcUsage(resident={"u-1": Bytes(12 * MIB)}), Level.WARN, "team/app holds 12 MiB of EPC, and asked for 10 MiB"),
    ],
)
def test_offenders_are_named_only_where_the_kernel_tells_what_is_held(usage, level, words):
    finding = _found(pods=(APP,), usage=usage)["node.pods.over-request"]
    assert finding.level is level
    assert words in finding.seen


def test_what_could_not_be_asked_is_unseen_and_says_why():
    found = _found(held="no socket", pods="no answer", usage=EpcUsage(resident={}))
    assert {finding.level for finding in found.values()} == {Level.UNSEEN}
    assert found["node.pods.devices"].seen == "no socket"
    assert found["node.pods.epc"].seen == "no answer"
    assert all(finding.todo for finding in found.values())


def test_of_very_many_pods_some_are_named_and_all_counted():
    finding = _found(held=tuple(_held(f"p-{n:03}") for n in range(110)))["node.pods.devices"]
    assert finding.seen.endswith("; and 90 more")
