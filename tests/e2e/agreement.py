"""The lab's placement beside the real kube-scheduler: one cluster after another, pod by pod, node by node.

The scheduler works on Node objects without a kubelet behind them. What it tells of a pod that it binds is where to; so
each node that the lab rules out is asked about by a copy of the pod that is pinned to it and that the scheduler then
refuses in words. Which nodes were left, and each plugin's score of them, its log says.
"""

import http.client
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bastide.cluster.placement import Effect, Node, Pod, Requirements, Scheduler, Score, Strategy, Taint
from bastide.units import parse_quantity
from e2e import config
from e2e.api import PATIENCE, Api, ApiError, connect_in, eventually
from e2e.box import Box
from e2e.certs import NODE_ADDRESS, make_certificates
from e2e.clusters import SENTINEL, Case, pinned

PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
AT_ONCE = "gracePeriodSeconds=0"
PROFILES = {Strategy.LEAST_ALLOCATED: "default-scheduler", Strategy.MOST_ALLOCATED: "packing-scheduler"}
"""Both ways of scoring that the lab knows, as profiles of one scheduler."""

_WEIGHTS = {"TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "NodeResourcesBalancedAllocation": 1}
_FIELD = re.compile(r'(\w+)="?((?:[^"\\]|\\.)*?)"?(?= \w+=|$)')
_SCORED = "Plugin scored node for pod"
_BOUND = "Successfully bound pod to node"
_REFUSED = "Unable to schedule pod; no fit"


@dataclass
class Outcome:
    """What the scheduler did with a pod: the node it was bound to, or the words of the refusal; and scores by node."""

    node: str = ""
    message: str = ""
    scores: dict[str, Counter[str]] = field(default_factory=dict)


@dataclass
class Tally:
    """What was compared, and every disagreement in words."""

    clusters: int = 0
    pods: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    scored_nodes: int = 0
    disagreements: list[str] = field(default_factory=list)

    def told(self) -> str:
        """One line and a table for people."""
        reasons = "".join(f"  {count:6} {reason}\n" for reason, count in self.reasons.most_common())
        return (
            f"{self.clusters} clusters, pods {dict(self.pods)}, {self.scored_nodes} nodes scored,"
            f" {len(self.disagreements)} disagreements; refusals by reason:\n{reasons}"
        )


class Plane:
    """Etcd, API server and scheduler in a box; no controllers, which would taint nodes that nobody keeps alive."""

    def __init__(self, box: Box) -> None:
        self.box = box
        pki, folder = box.folder / "pki", box.folder / "config"
        make_certificates(pki)
        config.write_configuration(folder, pki, box.cgroup)
        (folder / "profiles.json").write_text(json.dumps(_scheduler_configuration(folder)))
        self.api = KeptApi(lambda: box.network, pki)
        # Without controllers there are no service accounts, and nobody takes away the taint of a node that is new.
        admission = "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"
        self._etcd = box.part("etcd", *config.etcd())
        self._apiserver = box.part("kube-apiserver", *config.apiserver(pki), admission)
        verbosity = ("-v=2", "--vmodule=schedule_one=10")
        settings = (f"--config={folder}/profiles.json", "--bind-address=127.0.0.1", *verbosity)
        self._scheduler = box.part("kube-scheduler", "kube-scheduler", *settings)
        self._log = Log(box.logs / "kube-scheduler.log")

    def start(self) -> None:
        """Start the box and the three, and wait until the API server is ready."""
        self.box.start()
        for part in (self._etcd, self._apiserver):
            part.start()
        eventually(lambda: self._alive() and self.api.raw("GET", "/readyz"))
        eventually(lambda: self.api.get("/api/v1/namespaces/default"))
        self._scheduler.start()

    def stop(self, *, keep_logs_in: Path | None) -> None:
        """End everything and remove the box."""
        self.api.close()
        self.box.remove(keep_logs_in=keep_logs_in)

    def _alive(self) -> bool:
        for part in (self._etcd, self._apiserver):
            part.require_alive()
        return True

    def show(self, case: Case) -> None:
        """Replace what is there by the case's nodes and the pods on them, until the scheduler knows."""
        self.clear()
        for manifest in case.nodes:
            self.api.create(NODES, manifest)
        for manifest in case.residents:
            self.api.create(PODS, manifest)
        # A pod that fits no node for one sure reason: its refusal counts the nodes of this case and of no other.
        expected = f"0/{len(case.nodes)} nodes are available: {len(case.nodes)} Insufficient {SENTINEL}."
        for attempt in range(100):
            outcome = self.judge([case.sentinel(attempt)])[0]
            if outcome.message.startswith(expected):
                return
        raise AssertionError(f"the scheduler does not see the nodes: {outcome.message}")

    def clear(self) -> None:
        """Remove all pods and nodes."""
        self.api.delete(f"{PODS}?{AT_ONCE}")
        self.api.delete(f"{NODES}?{AT_ONCE}")

    def judge(self, manifests: list[dict[str, Any]]) -> list[Outcome]:
        """Create these pods; what the scheduler did with each."""
        for manifest in manifests:
            self.api.create(PODS, manifest)
        return [self._log.outcome(manifest["metadata"]["name"]) for manifest in manifests]


class KeptApi(Api):
    """Requests on one connection: here are thousands, and the server is never restarted."""

    _connection: http.client.HTTPSConnection | None = None

    def raw(self, method: str, path: str, value: object = None, *, content: str = "application/json") -> str:
        """One request; the answer's text. Raises ApiError, and whatever the network does."""
        if self._connection is None or self._connection.sock is None:
            self._connection = http.client.HTTPSConnection(NODE_ADDRESS, 6443, timeout=60)
            plain = connect_in(self._network(), (NODE_ADDRESS, 6443))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body go in two pieces
            self._connection.sock = self._tls.wrap_socket(plain, server_hostname=NODE_ADDRESS)
        try:
            body = None if value is None else json.dumps(value)
            self._connection.request(method, path, body, {"Content-Type": content})
            response = self._connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, text)
        return text

    def close(self) -> None:
        """End the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Log:
    """The scheduler's log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._seen: dict[str, Outcome] = {}

    def outcome(self, pod: str, *, seconds: float = PATIENCE) -> Outcome:
        """The pod's fate as soon as it is told; AssertionError where it is not in time."""
        end = time.monotonic() + seconds
        while True:
            self._read()
            found = self._seen.get(pod, Outcome())
            if found.node or found.message:
                return self._seen.pop(pod)
            if time.monotonic() > end:
                raise AssertionError(f"the scheduler says nothing about {pod}")
            time.sleep(0.002)

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._at)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        if not any(f'] "{words}' in line for words in (_SCORED, _BOUND, _REFUSED)):
            return
        said = dict(_FIELD.findall(line.partition('] "')[2].partition('" ')[2]))
        outcome = self._seen.setdefault(said["pod"].rpartition("/")[2], Outcome())
        if _SCORED in line:
            outcome.scores.setdefault(said["node"], Counter())[said["plugin"]] += int(said["score"])
        elif _BOUND in line:
            outcome.node = said["node"]
        else:
            outcome.message = said["err"].replace('\\"', '"')


def compare(plane: Plane, case: Case, tally: Tally, *, lab_case: Case | None = None) -> None:
    """Run one cluster through both and note every disagreement; after the first one the states differ, so it ends.

    ``lab_case`` is what the lab is shown in place of the case, to see that the comparison can fail.
    """
    shown = lab_case or case
    lab = Scheduler([as_node(manifest) for manifest in shown.nodes], shown.strategy)
    for manifest in shown.residents:
        assert lab.place(as_pod(manifest)).node, "residents fit, or no kubelet would have taken them"
    names = [manifest["metadata"]["name"] for manifest in case.nodes]
    plane.show(case)
    tally.clusters += 1
    for manifest in case.pods:
        found = [f"cluster {case.seed}: {one}" for one in _compare_pod(plane, lab, names, manifest, tally)]
        tally.disagreements += found
        if found:
            return


def _compare_pod(
    plane: Plane, lab: Scheduler, names: list[str], manifest: dict[str, Any], tally: Tally
) -> Iterator[str]:
    ask = Requirements.parse(manifest)
    scores = lab.scores(ask)
    left = {score.node for score in scores}
    probes = [pinned(manifest, node) for node in names if node not in left]
    *refusals, outcome = plane.judge([*probes, manifest])
    for probe, refusal in zip(probes, refusals, strict=True):
        yield from _compare_refusal(lab, probe, refusal, tally)
    if not scores:
        yield from _compare_refusal(lab, manifest, outcome, tally)
        return
    tally.pods["bound"] += 1
    yield from _compare_binding(manifest["metadata"]["name"], scores, outcome, tally)
    if outcome.node in left:
        lab.bind(ask, outcome.node)


def _compare_refusal(lab: Scheduler, manifest: dict[str, Any], outcome: Outcome, tally: Tally) -> Iterator[str]:
    """Both refuse, for the same reasons, each of the same number of nodes."""
    tally.pods["refused"] += 1
    placement = lab.place(as_pod(manifest))
    tally.reasons.update(reasons_in(outcome.message))
    name = manifest["metadata"]["name"]
    if placement.node is not None or outcome.node:
        yield f"{name}: the lab has it on {placement.node}, the scheduler on {outcome.node or outcome.message}"
    elif not f"{outcome.message} ".startswith(f"{placement.summary} "):
        yield f"{name}: the lab says {placement.summary!r}, the scheduler {outcome.message!r}"


def reasons_in(message: str) -> set[str]:
    """The scheduler's reasons without their numbers of nodes and without what it says of preemption."""
    listed = message.partition(": ")[2].partition(". ")[0].removesuffix(".")
    return {re.sub(r"^\d+ ", "", reason) for reason in listed.split(", ") if reason}


def _compare_binding(name: str, scores: list[Score], outcome: Outcome, tally: Tally) -> Iterator[str]:
    """The same nodes were left, each has the same score of each plugin, and the bound one is among the best."""
    left = {score.node for score in scores}
    best = {score.node for score in scores if score.total == max(one.total for one in scores)}
    if outcome.node not in best:
        yield f"{name}: the lab's best are {sorted(best)}, the scheduler's is {outcome.node or outcome.message}"
    if len(left) == 1 and not outcome.scores:
        return
    if set(outcome.scores) != left:
        yield f"{name}: left for the lab are {sorted(left)}, for the scheduler {sorted(outcome.scores)}"
        return
    for score in scores:
        tally.scored_nodes += 1
        lab, real = _by_plugin(score), +outcome.scores[score.node]
        if lab != real:
            yield f"{name}: on {score.node} the lab scores {dict(lab)}, the scheduler {dict(real)}"


def _by_plugin(score: Score) -> Counter[str]:
    """The lab's weighted scores by the plugin's name, without zeros."""
    parts = (score.taints, score.affinity, score.fit, score.balance)
    return +Counter({name: weight * part for (name, weight), part in zip(_WEIGHTS.items(), parts, strict=True)})


def as_pod(manifest: dict[str, Any]) -> Pod:
    """The lab's pod of a manifest."""
    return Pod(name=manifest["metadata"]["name"], requirements=Requirements.parse(manifest))


def as_node(manifest: dict[str, Any]) -> Node:
    """The lab's node of a manifest."""
    amounts = manifest["status"]["allocatable"].items()
    spec = manifest["spec"]
    return Node(
        name=manifest["metadata"]["name"],
        allocatable={name: int(parse_quantity(text) * (1000 if name == "cpu" else 1)) for name, text in amounts},
        labels=manifest["metadata"]["labels"],
        taints=tuple(Taint(key=one["key"], value=one["value"], effect=Effect(one["effect"])) for one in spec["taints"]),
        unschedulable=spec["unschedulable"],
    )


def _scheduler_configuration(folder: Path) -> dict[str, object]:
    """The default plugins, scoring EPC as the lab takes it to be set up, once spreading and once packing."""
    resources = [{"name": name, "weight": weight} for name, weight in _SCORED_RESOURCES.items()]
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": f"{folder}/scheduler.kubeconfig", "qps": 5000, "burst": 5000},
        "profiles": [
            {
                "schedulerName": name,
                "pluginConfig": [
                    {
                        "name": "NodeResourcesFit",
                        "args": {"scoringStrategy": {"type": str(strategy), "resources": resources}},
                    }
                ],
            }
            for strategy, name in PROFILES.items()
        ],
    }


_SCORED_RESOURCES = {"cpu": 1, "memory": 1, "sgx.intel.com/epc": 3}
