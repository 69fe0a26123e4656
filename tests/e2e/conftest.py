"""Real Kubernetes parts for the tests of this folder, which `make e2e` runs and `make test` leaves alone."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.api import eventually
from e2e.box import Box
from e2e.charted import ChartCluster
from e2e.cluster import EPC_BYTES, Cluster
from e2e.installed import EXTERNAL, SCALING, VALUES, Installed
from e2e.stated import LateStatement

collect_ignore_glob = [] if os.environ.get("BASTIDE_E2E") == "1" else ["test_*.py"]

LOGS = Path(tempfile.gettempdir()) / "bastide-e2e-logs"
DEVICES = 110
EPC = "sgx.intel.com/epc"
RESOURCES = ("sgx.intel.com/enclave", "sgx.intel.com/provision", "bastide.dev/quote")


def pytest_configure() -> None:
    """Whoever ends the run by a signal gets the same tidying up as with Ctrl-C."""
    if os.environ.get("BASTIDE_E2E") == "1":
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often each part is restarted."""
    return 20 if os.environ.get("BASTIDE_E2E_FULL") == "1" else 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the chart come last: their cluster is another, and one at a time is enough for two cores."""
    items.sort(key=lambda item: item.path.name.startswith("test_e2e_chart"))


@pytest.fixture(scope="session")
def boxes() -> list[Box]:
    """Every box of this run."""
    return []


@pytest.fixture(scope="session")
def started_cluster(request: pytest.FixtureRequest, boxes: list[Box]) -> Iterator[Cluster]:
    """A cluster of one node with our agent at work, for the whole run."""
    with _new_box(request, boxes, LOGS) as box:
        cluster = Cluster(box, Path(sys.executable))
        cluster.start()
        cluster.agent.start()
        for resource in RESOURCES:
            cluster.offers(resource, DEVICES)
        cluster.offers(EPC, EPC_BYTES)
        yield cluster


@pytest.fixture(scope="session")
def chart_cluster(request: pytest.FixtureRequest, boxes: list[Box]) -> Iterator[ChartCluster]:
    """Another cluster, with Services, DNS and a registry, and without anything of ours."""
    with _new_box(request, boxes, LOGS.with_name(f"{LOGS.name}-chart")) as box:
        cluster = ChartCluster(box, Path(sys.executable))
        cluster.start()
        yield cluster


@pytest.fixture(scope="session")
def release(chart_cluster: ChartCluster) -> Installed:
    """Bastide by its chart as it comes, waited for until all of it is ready."""
    release = Installed(chart_cluster)
    release.build_image()
    chart_cluster.registry.push_busybox("team/sgx-test:1", {})
    release.install(VALUES)
    return release


@pytest.fixture
def installed(release: Installed) -> Installed:
    """The release as it was installed, whatever other tests have made of it."""
    release.ensure(VALUES)
    return release


@pytest.fixture
def scaling(release: Installed) -> Installed:
    """The release with its external metrics API, read often."""
    if release.ensure(SCALING):
        eventually(lambda: release.cluster.api.get(EXTERNAL))
    return release


@pytest.fixture(scope="session")
def late(release: Installed) -> LateStatement:
    """A pod that was refused for want of a statement, which came a moment later. What follows takes minutes."""
    return LateStatement(release)


@pytest.fixture
def tidy_chart(release: Installed, request: pytest.FixtureRequest) -> Iterator[None]:
    """No pod of one test is there in the next, and every part of the chart's box still runs."""
    yield
    if _stops_here(request):
        return
    dead = release.cluster.revive()
    release.cluster.remove_all_pods()
    assert not dead, "parts ended by themselves, or a test left them so"


def _stops_here(request: pytest.FixtureRequest) -> bool:
    """Whether somebody wants to look at the box as a failed test has left it."""
    if request.session.testsfailed and _keeps_box():
        request.session.shouldstop = "the box is kept as the failed test left it"
        return True
    return False


@contextmanager
def _new_box(request: pytest.FixtureRequest, boxes: list[Box], logs: Path) -> Iterator[Box]:
    """A box of its own, after the end of those before."""
    for before in boxes:
        before.kill()
    box = Box(Path(os.environ["BASTIDE_E2E_BINARIES"]))
    boxes.append(box)
    failed = True
    try:
        yield box
        failed = request.session.testsfailed > 0
    finally:
        if failed and _keeps_box():
            _wait_for_looker(request, box)
        box.remove(keep_logs_in=logs if failed else None)
        if failed:
            sys.stderr.write(f"\ne2e: logs of every part: {logs}\n")


def _keeps_box() -> bool:
    return os.environ.get("BASTIDE_E2E_KEEP") == "1"


def _wait_for_looker(request: pytest.FixtureRequest, box: Box) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)  # pytest-timeout's: who looks may take their time
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stderr.write(f"\ne2e: the box is kept; look into it with {box.folder}/enter, end it with Ctrl-C here\n")
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


@pytest.fixture
def cluster(started_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster without any pod, all its parts running."""
    yield started_cluster
    if _stops_here(request):
        return
    dead = started_cluster.revive()
    started_cluster.remove_all_pods()
    assert not dead, "parts ended by themselves, or a test left them so"
