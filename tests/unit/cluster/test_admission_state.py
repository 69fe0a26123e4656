import asyncio
import logging

import pytest

from bastide.cluster import kept
from bastide.cluster.admission.state import ClusterState, NodesKept
from bastide.cluster.admission.subject import Subject
from bastide.cluster.gate.report import object_name
from bastide.cluster.gate.verdict import Standing
from bastide.cluster.kept import Court, ReportsKept, SignersKept
from bastide.kube.client import ApiClient
from bastide.kube.follow import FollowSettings
from bastide.pods.policy import GateMode, SignerGate
from bastide.units import MIB
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.gate import DIGEST, IMAGE, enclave, report, trusted_tree
from support.kube_objects import KubeObjects
from support.pods import container, pod

GATE = SignerGate(mode=GateMode.ENFORCE)
NODES = "/api/v1/nodes"
SIGNERS = "/apis/bastide.dev/v1alpha1/trustedsigners"
IMAGES = "/apis/bastide.dev/v1alpha1/enclaveimages"


def _one(image=IMAGE, *, holds_device=True):
    tree = pod(container({"sgx.intel.com/epc": "10Mi"} if holds_device else None, image=image.build()))
    return Subject.of(tree).images[0]


def _node(epc):
    return {
        "kind": "Node",
        "metadata": {"labels": {"bastide.dev/sgx-enabled": "true"}},
        "status": {"allocatable": {"sgx.intel.com/epc": epc}},
    }


def _court():
    signers, images = SignersKept(), ReportsKept()
    return Court(signers, images), signers, images


def _put_report(images, one):
    images.put(object_name(one.digest), one.build())


def test_of_nodes_one_number_is_kept():
    nodes = NodesKept()
    nodes.put("a", _node("64Mi"))
    nodes.put("b", _node(str(32 * MIB)))
    nodes.put("c", _node("0"))
    nodes.put("d", {"status": {"allocatable": {"sgx.intel.com/epc": ["?"]}}})
    nodes.put("e", _node("64Mi"))
    assert nodes.sizes == (32 * MIB, 64 * MIB)
    assert nodes.names() == ("a", "b", "e")
    nodes.drop("e")
    nodes.put("a", _node("0"))
    nodes.drop("b")
    nodes.drop("never")
    assert nodes.sizes == ()


def test_an_image_is_unknown_until_its_facts_come_and_accepted_by_a_trusted_signer():
    court, signers, images = _court()
    assert court.judge(_one(), "shop", GATE).standing is Standing.UNKNOWN
    _put_report(images, report(enclave()))
    assert court.judge(_one(), "shop", GATE).standing is Standing.REFUSED
    signers.put("payments", trusted_tree())
    assert court.judge(_one(), "shop", GATE).standing is Standing.ACCEPTED
    signers.drop("payments")
    refused = court.judge(_one(), "shop", GATE)
    assert refused.standing is Standing.REFUSED
    assert any("TrustedSigner" in reason for reason in refused.reasons)


def test_a_verdict_is_made_once_and_again_when_anything_under_it_changes():
    court, signers, images = _court()
    signers.put("payments", trusted_tree())
    _put_report(images, report(enclave()))
    for _ in range(3):
        court.judge(_one(), "shop", GATE)
    assert (court.misses, court.hits) == (1, 2)
    _put_report(images, report(enclave()))  # the same facts, from a new list
    court.judge(_one(), "shop", GATE)
    assert court.misses == 1
    changes = (
        lambda: court.judge(_one(), "elsewhere", GATE),
        lambda: court.judge(_one(holds_device=False), "shop", GATE),
        lambda: court.judge(_one(), "shop", SignerGate(mode=GateMode.ENFORCE, allow_no_enclave=True)),
        lambda: (signers.put("x", trusted_tree("x")), court.judge(_one(), "shop", GATE)),
        lambda: (_put_report(images, report()), court.judge(_one(), "shop", GATE)),
    )
    for number, change in enumerate(changes, start=2):
        change()
        assert court.misses == number


def test_the_memory_for_verdicts_is_bounded(monkeypatch):
    monkeypatch.setattr(kept, "MOST_VERDICTS", 3)
    court, _, _ = _court()
    for number in range(10):
        court.judge(_one(), f"n{number}", GATE)
    assert len(court._verdicts) == 3
    court.judge(_one(), "n9", GATE)
    assert court.hits == 1


def test_a_signer_that_becomes_unreadable_trusts_nobody_and_is_named(caplog):
    caplog.set_level(logging.CRITICAL)
    court, signers, images = _court()
    _put_report(images, report(enclave()))
    signers.put("payments", trusted_tree())
    assert court.judge(_one(), "shop", GATE).standing is Standing.ACCEPTED
    signers.put("payments", trusted_tree(minimumSvn="three"))
    assert court.judge(_one(), "shop", GATE).standing is Standing.REFUSED
    assert list(signers.faults) == ["payments"]
    assert signers.names() == ("payments",)


def test_facts_that_cannot_be_read_are_no_facts(caplog):
    caplog.set_level(logging.CRITICAL)
    court, _, images = _court()
    images.put(object_name(DIGEST), {**report(enclave()).build(), "report": {"digest": "x"}})
    assert court.judge(_one(), "shop", GATE).standing is Standing.UNKNOWN
    # an object that lies under the name of another image
    images.put("sha256-" + "00" * 32, report(enclave()).build())
    stranger = ReportsKept()
    stranger.put("sha256-" + "00" * 32, report(enclave()).build())
    assert stranger.report("sha256:" + "00" * 32) is None


def test_memory_for_facts_is_counted_and_given_back():
    images = ReportsKept()
    tree = report(enclave()).build()
    tree["metadata"] |= {"managedFields": [{"x": "y" * 100_000}]}
    images.put(object_name(DIGEST), tree)
    assert 0 < images.bytes < 10_000
    images.drop(object_name(DIGEST))
    assert images.bytes == 0


def _follow(objects, test):
    async def followed():
        with api_server(objects) as api:
            client = ApiClient(api.access, chance=lambda: 0.0)
            quick = FollowSettings(first_delay=0.02, longest_delay=0.05)
            cluster = ClusterState(client, chance=lambda: 0.0, settings=quick)
            task = asyncio.ensure_future(cluster.run())
            try:
                await test(cluster, api)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    run_bounded(followed)


def test_it_is_ready_once_all_three_were_listed_and_follows_what_changes():
    objects = KubeObjects()
    late = [True]
    objects.refuse = lambda _method, path: 500 if late[0] and path == IMAGES else None
    objects.put(f"{NODES}/a", _node("64Mi"))
    objects.put(f"{SIGNERS}/payments", trusted_tree())
    objects.put(f"{IMAGES}/{object_name(DIGEST)}", report(enclave()).build())

    async def test(cluster, api):
        await eventually(lambda: "enclaveimages" in cluster.faults, "the third was refused")
        await eventually(lambda: cluster.not_ready == ("enclaveimages not listed yet",), "two of three")
        late[0] = False
        await eventually(lambda: not cluster.not_ready, "ready")
        assert any("labelSelector=bastide.dev%2Fsgx-enabled%3Dtrue" in one.path for one in api.asked)
        assert cluster.court.judge(_one(), "shop", GATE).standing is Standing.ACCEPTED
        objects.delete(f"{SIGNERS}/payments")
        await eventually(lambda: cluster.signers.all == (), "the signer is gone")
        assert cluster.court.judge(_one(), "shop", GATE).standing is Standing.REFUSED
        objects.put(f"{NODES}/b", _node("32Mi"))
        await eventually(lambda: len(cluster.nodes.sizes) == 2, "the node is there")

    _follow(objects, test)


def test_a_missing_right_is_told_and_mended_later(caplog):
    caplog.set_level(logging.CRITICAL)
    objects = KubeObjects()
    forbidden = [True]
    objects.refuse = lambda _method, path: 403 if forbidden[0] and path == SIGNERS else None

    async def test(cluster, _api):
        await eventually(lambda: "kube.forbidden" in cluster.faults.get("trustedsigners", ""), "told")
        forbidden[0] = False
        await eventually(lambda: not cluster.not_ready, "ready")

    _follow(objects, test)


@pytest.mark.parametrize("kind", ["nodes", "trustedsigners", "enclaveimages"])
def test_what_a_new_list_leaves_out_is_gone(kind):
    from bastide.kube.follow import Listed

    cluster = ClusterState(None, chance=lambda: 0.0)
    trees = {"nodes": _node("1Mi"), "trustedsigners": trusted_tree(), "enclaveimages": report(enclave()).build()}
    tree = trees[kind]
    tree["metadata"]["name"] = object_name(DIGEST)
    kept_there = {"nodes": cluster.nodes, "trustedsigners": cluster.signers, "enclaveimages": cluster.images}[kind]
    cluster._saw(kind, Listed(objects=(tree,)))
    assert kept_there.names()
    cluster._saw(kind, Listed(objects=()))
    assert kept_there.names() == ()
