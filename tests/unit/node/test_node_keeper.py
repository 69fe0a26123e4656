import asyncio
import dataclasses
from contextlib import asynccontextmanager

import pytest

from bastide.errors import ConflictError
from bastide.kube.client import ApiClient
from bastide.kube.follow import FollowSettings
from bastide.node.contest import Contest, Patience
from bastide.node.described import WITHOUT_SGX, DescribedHardware, sgx_inventory
from bastide.node.epc import epc_capacity
from bastide.node.keeper import KeeperSettings, NodeKeeper, nodes_of_ours, release
from bastide.node.nodeobject import STARTUP_TAINT
from bastide.units import MIB, Bytes
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.node_api import ENCLAVE, EPC, NodeApi, node

NODE = sgx_inventory(Bytes(64 * MIB))
FOLLOW = FollowSettings(first_delay=0.02, longest_delay=0.05)
QUICK = KeeperSettings(interval=0.02, follow=FOLLOW)


@asynccontextmanager
async def _kept(access, hardware, settings=QUICK):
    keeper = NodeKeeper(
        ApiClient(access, chance=lambda: 0.0),
        "n",
        hardware=hardware,
        wanted=lambda: epc_capacity(hardware.inventory().epc),
        chance=lambda: 0.0,
        settings=settings,
    )
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()


def _with_keeper(api, test, settings=QUICK, inventory=NODE):
    async def kept():
        hardware = DescribedHardware(inventory)
        async with _kept(served.access, hardware, settings) as keeper:
            await test(keeper, hardware)

    with api_server(api) as served:
        run_bounded(kept)


def _set_capacity(value):
    def edit(tree):
        if value is None:
            tree["status"]["capacity"].pop(EPC, None)
        else:
            tree["status"]["capacity"][EPC] = value

    return edit


def test_writes_capacity_and_labels():
    api = NodeApi(node())

    async def written(_keeper, _hardware):
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity")
        await eventually(lambda: api.labels.get("bastide.dev/sgx-enabled") == "true", "labels")
        assert api.labels["kubernetes.io/os"] == "linux"

    _with_keeper(api, written)
    assert [path for path, _ in api.patches] == ["/api/v1/nodes/n/status", "/api/v1/nodes/n"]


@pytest.mark.parametrize("drift", ["0", None, "1Ki"])
def test_puts_the_capacity_right_again_whenever_it_drifts(drift):
    api = NodeApi(node())

    async def drifted(keeper, _hardware):
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity")
        for number in (1, 2):
            await eventually(lambda: keeper.state.capacity == 64 * MIB, "seen")
            await asyncio.sleep(0.1)
            api.change(_set_capacity(drift))
            await eventually(lambda: api.capacity == str(64 * MIB), "right again", seconds=5)
            await eventually(lambda: keeper.state.corrections == number, "counted")  # noqa: B023

    _with_keeper(api, drifted)


def test_a_node_that_is_right_is_not_written():
    tree = node(**{EPC: "64Mi"})
    tree["metadata"]["labels"] |= {
        f"bastide.dev/sgx-{name}": value
        for name, value in (
            ("enabled", "true"),
            ("generation", "sgx2"),
            ("flc", "true"),
            ("provision", "true"),
            ("aesm", "true"),
            ("driver", "in-tree"),
        )
    }
    api = NodeApi(tree)

    async def calm(keeper, _hardware):
        await eventually(lambda: keeper.state.capacity == 64 * MIB, "seen")
        await asyncio.sleep(0.2)

    _with_keeper(api, calm)
    assert api.patches == []


def test_follows_the_hardware():
    api = NodeApi(node())

    async def followed(_keeper, hardware):
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity")
        hardware.describe(WITHOUT_SGX)
        await eventually(lambda: api.capacity == "0", "driver gone")
        await eventually(lambda: "bastide.dev/sgx-enabled" not in api.labels, "labels gone")
        hardware.describe(NODE)
        await eventually(lambda: api.capacity == str(64 * MIB), "driver back")

    _with_keeper(api, followed, settings=dataclasses.replace(QUICK, interval=60))


def test_what_the_api_server_refused_is_tried_again_after_a_while():
    api = NodeApi(node())
    api.refuse["PATCH"] = 500

    async def refused(keeper, _hardware):
        await eventually(lambda: "500" in keeper.state.fault, "refused")
        api.refuse.clear()
        await eventually(lambda: api.capacity == str(64 * MIB), "written")

    _with_keeper(api, refused, settings=dataclasses.replace(QUICK, interval=60, resync=60))


def test_does_not_fight_somebody_who_keeps_changing_the_capacity():
    api = NodeApi(node())
    settings = dataclasses.replace(QUICK, patience=Patience(writes=3, window=60, pause=60))

    async def fought(keeper, _hardware):
        for _ in range(3):
            await eventually(lambda: api.capacity == str(64 * MIB), "capacity")
            api.change(_set_capacity("1"))
        await eventually(lambda: keeper.state.contested, "given up")
        await asyncio.sleep(0.2)
        assert api.capacity == "1"

    _with_keeper(api, fought, settings)
    assert sum(path.endswith("/status") for path, _ in api.patches) == 3


def test_a_driver_that_comes_and_goes_is_no_fight():
    api = NodeApi(node())
    settings = dataclasses.replace(QUICK, patience=Patience(writes=3, window=60, pause=60))

    async def followed(keeper, hardware):
        for _ in range(4):
            hardware.describe(NODE)
            await eventually(lambda: api.capacity == str(64 * MIB), "driver there")
            await eventually(lambda: "bastide.dev/sgx-enabled" in api.labels, "labels there")
            hardware.describe(WITHOUT_SGX)
            await eventually(lambda: api.capacity == "0", "driver gone")
            await eventually(lambda: "bastide.dev/sgx-enabled" not in api.labels, "labels gone")
        # A slow machine hears late of its own writing and corrects once more; that must not add up to a fight.
        assert not keeper.state.contested
        assert keeper.state.corrections < 4

    _with_keeper(api, followed, settings)


def test_the_start_up_taint_goes_when_pods_can_be_given_what_the_node_has():
    tree = node()
    tree["spec"]["taints"] = [{"key": STARTUP_TAINT, "effect": "NoSchedule"}]
    api = NodeApi(tree)

    async def freed(keeper, _hardware):
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity")
        await asyncio.sleep(0.1)
        assert api.node["spec"]["taints"]
        assert not keeper.state.ready
        api.change(lambda tree: tree["status"].update(allocatable={EPC: "64Mi", ENCLAVE: "110"}))
        await eventually(lambda: not api.node["spec"]["taints"], "taint gone")
        await eventually(lambda: keeper.state.ready, "ready")

    _with_keeper(api, freed)


def test_a_patch_that_came_too_late_is_judged_anew():
    api = NodeApi(node(**{EPC: "1"}))
    patch = api._patch
    meddled = []

    def meddle_first(asked, path, answer):
        if not meddled:
            meddled.append(True)
            _set_capacity("2")(api.node)  # the watch does not tell of it
            api.node["metadata"]["resourceVersion"] = "20"
        patch(asked, path, answer)

    api._patch = meddle_first

    async def written(_keeper, _hardware):
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity")

    _with_keeper(api, written)
    assert [body[1]["value"] for path, body in api.patches if path.endswith("/status")] == ["1", "2"]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("status", [403, 500])
def test_refusals_end_nothing_and_are_told(method, status):
    api = NodeApi(node())
    api.refuse = {method: status}

    async def refused(keeper, _hardware):
        await eventually(lambda: "refused by the test" in keeper.state.fault, "told")
        api.refuse = {}
        await eventually(lambda: api.capacity == str(64 * MIB), "goes on")
        await eventually(lambda: not keeper.state.fault, "forgotten")

    _with_keeper(api, refused)


def test_a_node_that_is_made_anew_gets_everything_again():
    api = NodeApi(node())

    async def anew(keeper, _hardware):
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity")

        def replaced(tree):
            tree["metadata"].update(uid="u-2", labels={})
            tree["status"] = {"capacity": {}, "allocatable": {}}

        api.change(replaced)
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity again")
        await eventually(lambda: "bastide.dev/sgx-enabled" in api.labels, "labels again")

    _with_keeper(api, anew)


def test_a_list_is_believed_even_where_a_restored_cluster_has_older_versions():
    api = NodeApi(node())
    api.node["metadata"]["resourceVersion"] = "5000"

    async def restored(keeper, _hardware):
        await eventually(lambda: "bastide.dev/sgx-enabled" in api.labels, "written")
        api.node = node()  # version 10
        api.history.clear()
        api.end_watches()
        await eventually(lambda: api.capacity == str(64 * MIB), "written again")

    _with_keeper(api, restored)


def test_a_change_that_the_watch_missed_is_seen_by_reading_anew():
    api = NodeApi(node())
    settings = dataclasses.replace(QUICK, resync=0.1)

    async def missed(keeper, _hardware):
        await eventually(lambda: keeper.state.capacity == 64 * MIB, "capacity")
        await eventually(lambda: "bastide.dev/sgx-enabled" in api.labels, "labels")
        tree = node()
        tree["metadata"]["resourceVersion"] = "99"
        api.node = tree  # without telling the watch
        await eventually(lambda: api.capacity == str(64 * MIB), "capacity again")

    _with_keeper(api, missed, settings)


def test_ending_takes_nothing_back_and_releasing_does():
    api = NodeApi(node())

    async def ended(_keeper, _hardware):
        await eventually(lambda: "bastide.dev/sgx-enabled" in api.labels, "written")

    _with_keeper(api, ended)
    assert api.capacity == str(64 * MIB)

    async def released():
        client = ApiClient(served.access, chance=lambda: 0.0)
        assert [one["metadata"]["name"] for one in await nodes_of_ours(client)] == ["n"]
        assert await release(client, api.node)
        assert not await release(client, api.node)

    with api_server(api) as served:
        run_bounded(released)
    assert (api.capacity, api.labels) == (None, {"kubernetes.io/os": "linux"})


def test_releasing_leaves_alone_what_is_not_ours():
    api = NodeApi(node(**{EPC: "5"}))

    async def released():
        assert not await release(ApiClient(served.access, chance=lambda: 0.0), api.node)

    with api_server(api) as served:
        run_bounded(released)
    assert api.patches == []


def test_releasing_a_node_that_changed_meanwhile_is_refused():
    api = NodeApi(node(**{EPC: "5"}))
    api.labels["bastide.dev/sgx-enabled"] = "true"
    before = api.node
    api.change(lambda tree: tree["metadata"].update(uid="u-2"))

    async def released():
        with pytest.raises(ConflictError):
            await release(ApiClient(served.access, chance=lambda: 0.0), before)

    with api_server(api) as served:
        run_bounded(released)
    assert api.capacity == "5"


def test_a_contest_forgets_old_writes_and_ends():
    contest = Contest(Patience(writes=2, window=10, pause=100))
    for now in (0, 6, 12, 18):
        assert contest.may_write(now)
        contest.wrote(now)
    assert not contest.may_write(21)
    assert contest.is_lost(120)
    assert not contest.may_write(120)
    assert not contest.is_lost(121)
    assert contest.may_write(121)
