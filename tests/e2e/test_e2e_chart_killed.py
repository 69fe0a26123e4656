"""The webhook's processes are killed, all at once and again and again, while pods of both kinds are made."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from e2e.api import ApiError, eventually
from e2e.cluster import PODS, busybox_pod
from e2e.installed import CHANGED, NAMESPACE, Installed, sgx_deployment, sgx_pod

pytestmark = pytest.mark.usefixtures("tidy_chart")
EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
OLD_NAME = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
OPENS = "(exec 3<>/dev/sgx_enclave) && echo the device opens"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
ADMISSION_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component=admission"
REPLICAS = 2


@dataclass
class Stream:
    """Makes one SGX pod after the other, with an ordinary one now and then, until it is stopped.

    Attributes:
        installed: where.
        admitted: numbers of SGX pods that were let in.
        refused: of those that were not, with what the API server said.
        plain: of ordinary pods.
    """

    installed: Installed
    admitted: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    plain: list[int] = field(default_factory=list)
    _stopped: Event = field(default_factory=Event)
    _running: Future[None] = field(default_factory=Future)

    def start(self, thread: ThreadPoolExecutor) -> None:
        """Begin, in a thread of its own."""
        self._running = thread.submit(self._run)

    def end(self) -> None:
        """Make no more, and raise whatever went wrong."""
        self._stopped.set()
        self._running.result(120)

    def _run(self) -> None:
        """What is let in starts on this machine's cores, so it comes slower than what is refused."""
        number = 0
        while not self._stopped.is_set():
            number += 1
            let_in = self._let_in(number)
            if let_in or number % 4 == 0:
                self.installed.cluster.create_pod(busybox_pod(f"plain-{number}", "true"))
                self.plain.append(number)
            self._stopped.wait(2.0 if let_in else 0.5)

    def _let_in(self, number: int) -> bool:
        pod = sgx_pod(f"sgx-{number}", "team/sgx-test:1", script=OPENS)
        pod["metadata"]["labels"] = {"stream": "sgx"}
        # An old name: a pod that still has it is one that nobody judged.
        pod["spec"]["containers"][0]["resources"] = {"limits": {OLD_NAME: "1"}}
        try:
            self.installed.cluster.create_pod(pod)
        except ApiError as error:
            self.refused[number] = str(error)
            return False
        self.admitted.append(number)
        return True

    def require_more(self, than: int, more: int = 2) -> None:
        """So many more SGX pods were let in."""
        assert len(self.admitted) >= than + more, (len(self.admitted), list(self.refused.values())[-1:])

    def require_closed(self, than: int) -> None:
        """An SGX pod was refused because nobody answered."""
        last = list(self.refused.values())[than:]
        assert any("failed calling webhook" in said for said in last), last


@pytest.fixture
def stream(installed: Installed) -> Iterator[Stream]:
    """It runs."""
    made = Stream(installed)
    with ThreadPoolExecutor(max_workers=1) as thread:
        made.start(thread)
        yield made
        made.end()


@pytest.fixture
def owned(installed: Installed) -> Iterator[str]:
    """A Deployment of one SGX pod."""
    installed.cluster.api.create(DEPLOYMENTS, sgx_deployment("owned"))
    yield "owned"
    installed.cluster.api.delete(f"{DEPLOYMENTS}/owned?propagationPolicy=Background")


def one_runs(installed: Installed, app: str) -> dict[str, Any]:
    """The one pod of a Deployment as soon as it runs."""

    def look() -> dict[str, Any]:
        pods = installed.pods_of(f"app={app}")
        assert [pod["status"]["phase"] for pod in pods] == ["Running"], pods
        return pods[0]

    return eventually(look)


def restarts(installed: Installed) -> int:
    """How often the kubelet has started processes of the webhook again; all have to be ready."""
    pods = installed.cluster.api.get(ADMISSION_PODS)["items"]
    statuses = [status for pod in pods for status in pod["status"]["containerStatuses"]]
    assert [status["ready"] for status in statuses] == [True] * REPLICAS, statuses
    return sum(status["restartCount"] for status in statuses)


def require_judged(pod: dict[str, Any]) -> None:
    """It carries what admission writes into a pod."""
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {EPC: "1Mi", ENCLAVE: "1"}
    assert OLD_NAME in pod["metadata"]["annotations"][CHANGED]
    assert EPC in [toleration.get("key") for toleration in pod["spec"]["tolerations"]]


def require_restarted(installed: Installed, before: int) -> None:
    """Every process was started again once, in the pod where it was."""
    assert restarts(installed) == before + REPLICAS


def test_while_the_webhook_s_processes_are_killed_no_sgx_pod_slips_in_and_others_start(
    installed: Installed, stream: Stream, owned: str, rounds: int
) -> None:
    cluster = installed.cluster
    for _ in range(min(rounds, 5)):  # the kubelet waits twice as long after each: 0, 10, 20, 40, 80 s
        let_in, before = len(stream.admitted), restarts(installed)
        eventually(lambda let_in=let_in: stream.require_more(let_in))
        old = one_runs(installed, owned)["metadata"]["name"]
        refused = len(stream.refused)
        assert len(installed.kill("admission")) == REPLICAS
        cluster.api.delete(f"{PODS}/{old}?gracePeriodSeconds=0")
        eventually(lambda refused=refused: stream.require_closed(refused))
        let_in = len(stream.admitted)
        eventually(lambda before=before: require_restarted(installed, before))
        eventually(lambda let_in=let_in: stream.require_more(let_in))
        new = one_runs(installed, owned)
        assert new["metadata"]["name"] != old
        assert new["spec"]["containers"][0]["resources"]["limits"][ENCLAVE] == "1"
    stream.end()
    require_outcome(installed, stream)


def require_outcome(installed: Installed, stream: Stream) -> None:
    """Who was refused is not there; who is there was judged and had the device; ordinary pods started all the time."""
    pods = installed.pods_of("stream=sgx")
    assert {pod["metadata"]["name"] for pod in pods} == {f"sgx-{number}" for number in stream.admitted}
    for pod in pods:
        require_judged(pod)
    for number in stream.admitted:
        installed.cluster.in_phase(f"sgx-{number}", "Succeeded")
        assert installed.cluster.log(f"sgx-{number}") == "the device opens\n"
    assert set(stream.plain) & set(stream.refused), "no ordinary pod was made while SGX pods were refused"
    for number in stream.plain:
        installed.cluster.in_phase(f"plain-{number}", "Succeeded")
