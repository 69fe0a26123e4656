import pytest

from bastide.sim.devicemanager import DeviceManager, UnexpectedAdmissionError

R, S = "sgx.intel.com/enclave", "bastide.dev/quote"


@pytest.fixture
def manager():
    manager = DeviceManager()
    manager.update(R, {"a": True, "b": False, "c": True})
    manager.update(S, {"q": True})
    return manager


def test_counts_known_and_healthy_devices(manager):
    assert manager.capacity() == {S: 1, R: 3}
    assert manager.allocatable() == {S: 1, R: 2}


def test_never_gives_one_device_twice_nor_one_that_is_unhealthy(manager):
    assert manager.claim("p1", "main", {R: 1}) == {R: ("a",)}
    assert manager.claim("p2", "main", {R: 1}) == {R: ("c",)}
    with pytest.raises(UnexpectedAdmissionError, match=r"1 of sgx\.intel\.com/enclave asked, 0 healthy and free"):
        manager.claim("p3", "main", {R: 1})


def test_containers_of_one_pod_get_devices_of_their_own(manager):
    assert manager.claim("p", "init", {R: 1}) != manager.claim("p", "main", {R: 1})


def test_a_container_that_asks_again_keeps_what_it_has(manager):
    assert manager.claim("p", "main", {R: 2}) == manager.claim("p", "main", {R: 2})


def test_gives_all_resources_or_none(manager):
    with pytest.raises(UnexpectedAdmissionError):
        manager.claim("p", "main", {R: 2, S: 2})
    assert not manager.holds("p", "main")
    assert manager.claim("q", "main", {R: 2, S: 1}) == {R: ("a", "c"), S: ("q",)}


def test_a_pod_that_ends_frees_all_its_devices(manager):
    manager.claim("p", "init", {R: 1})
    manager.claim("p", "main", {R: 1})
    manager.release("p")
    assert manager.claim("q", "main", {R: 2})


def test_one_container_is_released_without_the_others(manager):
    manager.claim("p", "init", {R: 1})
    manager.claim("p", "main", {R: 1})
    manager.release("p", "init")
    assert not manager.holds("p", "init")
    assert manager.holds("p", "main")


def test_devices_held_stay_held_while_their_plugin_is_lost(manager):
    manager.claim("p", "main", {R: 2})
    manager.lose(R)
    assert manager.capacity()[R] == 3
    assert manager.allocatable()[R] == 0
    manager.update(R, {"a": True, "b": True, "c": True})
    assert manager.claim("q", "main", {R: 1}) == {R: ("b",)}


@pytest.mark.parametrize("amount", [0, -1])
def test_asking_for_nothing_gives_nothing(manager, amount):
    assert manager.claim("p", "main", {R: amount}) == {}


def test_an_unknown_resource_is_refused(manager):
    with pytest.raises(UnexpectedAdmissionError, match="0 healthy and free"):
        manager.claim("p", "main", {"example.com/none": 1})


def test_devices_of_an_init_container_go_on_to_the_containers_after_it(manager):
    assert manager.claim("p", "first", {R: 1}, is_init=True) == {R: ("a",)}
    assert manager.claim("p", "second", {R: 2}, is_init=True) == {R: ("a", "c")}
    assert manager.claim("p", "main", {R: 1}) == {R: ("a",)}
    assert manager.claim("p", "other", {R: 1}) == {R: ("c",)}
    with pytest.raises(UnexpectedAdmissionError, match="0 healthy and free"):
        manager.claim("p", "one too many", {R: 1})


def test_a_container_takes_what_is_left_over_before_what_is_free(manager):
    manager.claim("gone", "main", {R: 1})
    manager.claim("p", "init", {R: 1}, is_init=True)
    manager.release("gone")
    assert manager.claim("p", "main", {R: 1}) == {R: ("c",)}


def test_devices_left_over_are_nobody_elses_until_the_pod_ends(manager):
    manager.claim("p", "init", {R: 2}, is_init=True)
    with pytest.raises(UnexpectedAdmissionError):
        manager.claim("q", "main", {R: 1})
    manager.release("p")
    assert manager.claim("q", "main", {R: 2}) == {R: ("a", "c")}
    with pytest.raises(UnexpectedAdmissionError):
        manager.claim("p", "main", {R: 1})
