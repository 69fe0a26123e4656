import time

import pytest
from click.testing import CliRunner

from bastide.cli.cluster_controller import command
from bastide.cluster.controller.asking import Asking
from bastide.cluster.controller.gatekeeper import Gatekeeper, Outcome, World
from bastide.cluster.controller.pods import KeptPods, is_gated, is_marked
from bastide.cluster.gate.pod import Decision
from bastide.cluster.kept import GateFacts
from bastide.errors import ConfigError, UnavailableError
from bastide.kube.client import ApiClient
from bastide.kube.events import EventRecorder
from bastide.pods.policy import AdmissionPolicy, GateMode, SignerGate
from support.api_server import api_server
from support.bounded import run_bounded
from support.gate import DIGEST, REPOSITORY, enclave, report, trusted_tree
from support.kube_objects import KubeObjects
from support.pods import container, pod

GATE = {"name": "bastide.dev/enclave-inspection"}


def gatekeeper(api, may_act):
    world = World(
        gated=KeptPods(is_gated),
        marked=KeptPods(is_marked),
        facts=GateFacts(),
        policy=lambda: AdmissionPolicy(signer_gate=SignerGate(mode=GateMode.ENFORCE)),
        may_act=may_act,
    )
    tree = pod(container(image=f"{REPOSITORY}@{DIGEST}"), schedulingGates=[GATE])
    tree["metadata"] = {"name": "app", "namespace": "a", "uid": "u"}
    world.gated.put(tree)
    world.facts.signers.put("payments", trusted_tree())
    facts = report(enclave()).build()
    world.facts.images.put(facts["metadata"]["name"], facts)
    client = ApiClient(api.access, chance=lambda: 0.0)
    return Gatekeeper(
        client,
        world,
        Asking(None, again=1.0, clock=time.monotonic),
        EventRecorder(client, "x", "y", clock=time.monotonic),
    )


def test_a_refused_pod_is_looked_at_again_no_sooner_than_its_image_would_be():
    async def test():
        keeper = gatekeeper(api, lambda: True)
        keeper._world.facts.signers.put("payments", trusted_tree(minimumSvn=9))
        outcome = await keeper.look("a/app")
        assert (outcome.decision, outcome.not_before) == (Decision.REFUSE, 60.0)

    kept = KubeObjects()
    kept.put("/api/v1/namespaces/a/pods/app", {"metadata": {"uid": "u"}})
    with api_server(kept) as api:
        run_bounded(test)


def test_who_does_not_lead_does_not_look():
    async def test():
        assert await gatekeeper(api, lambda: False).look("a/app") == Outcome(decision=None)
        assert api.asked == []

    with api_server(KubeObjects()) as api:
        run_bounded(test)


def test_a_lead_that_is_lost_between_judgement_and_write_writes_nothing():
    answers = iter([True, False])

    async def test():
        with pytest.raises(UnavailableError) as caught:
            await gatekeeper(api, lambda: next(answers)).look("a/app")
        assert caught.value.code == "controller.lead"
        assert not any(one.method == "PATCH" for one in api.asked)

    with api_server(KubeObjects()) as api:
        run_bounded(test)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--scanner", "https://scanner"], "cluster.controller.scanner"),
        (["--scanner-ca", "ca.crt", "--scanner-token", "token"], "cluster.controller.scanner"),
        (["--listen", "9110"], "cluster.controller.listen"),
        (["--listen", "127.0.0.1:99999"], "cluster.controller.listen"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, code, tmp_path):
    config = tmp_path / "kubeconfig"
    config.write_text(
        "current-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: a, user: {}}]\n"
    )
    result = CliRunner().invoke(command, ["--kubeconfig", str(config), *options])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.code == code
