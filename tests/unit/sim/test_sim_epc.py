import pytest

from bastide.catalogue.epc import epc_need
from bastide.errors import MalformedError, UnavailableError
from bastide.sim.epc import BLOCK, Epc, EpcmRun
from bastide.units import Pages

RW, R = 0x203, 0x201


def epc(pages: int, *enclaves: int) -> Epc:
    made = Epc(Pages(pages))
    for enclave in enclaves:
        made.create(enclave)
    return made


def test_an_empty_epc_uses_nothing() -> None:
    usage = epc(1000).usage()
    assert (usage.capacity, usage.used, usage.pinned, usage.committed, usage.evicted, usage.reloaded) == (
        (1000,) + (0,) * 5
    )


@pytest.mark.parametrize("pages", [1, 510, 511, 512, 1022, 1023, 1024])
def test_an_enclave_takes_as_much_epc_as_the_catalogue_says(pages: int) -> None:
    made = epc(5000, 1)
    made.add(1, 0, pages, RW)
    need = epc_need(pages)
    usage = made.usage()
    assert (usage.used, usage.committed) == (need.pages, need.pages)
    assert usage.pinned == need.secs + need.version_arrays


def test_pages_added_one_by_one_take_no_more_than_pages_added_at_once() -> None:
    made = epc(5000, 1)
    for page in range(600):
        made.add(1, page, 1, RW)
    assert made.usage().used == epc_need(600).pages


@pytest.mark.parametrize(("first", "count"), [(5, 1), (0, 6), (14, 3), (0, 100), (9, 2)])
def test_refuses_a_page_that_is_there_already(first: int, count: int) -> None:
    made = epc(1000, 1)
    made.add(1, 5, 10, RW)
    before = made.usage()
    with pytest.raises(MalformedError) as raised:
        made.add(1, first, count, RW)
    assert raised.value.code == "epcm.page.present"
    assert made.usage() == before


def test_the_same_page_number_is_free_in_another_enclave() -> None:
    made = epc(1000, 1, 2)
    made.add(1, 0, 1, RW)
    made.add(2, 0, 1, R)
    assert (made.entry(1, 0), made.entry(2, 0)) == (
        EpcmRun(first=0, count=1, flags=RW),
        EpcmRun(first=0, count=1, flags=R),
    )


def test_epcm_entries_of_neighbours_are_one_run_only_with_equal_flags() -> None:
    made = epc(1000, 1)
    made.add(1, 0, 2, RW)
    made.add(1, 2, 2, RW)
    made.add(1, 4, 1, R)
    assert made.entry(1, 3) == EpcmRun(first=0, count=4, flags=RW)
    assert made.entry(1, 4) == EpcmRun(first=4, count=1, flags=R)
    assert made.entry(1, 5) is None
    assert made.entry(2, 0) is None


def test_pages_that_are_resident_need_no_reload() -> None:
    made = epc(1000, 1)
    made.add(1, 0, 500, RW)
    assert made.touch(1, 0, 500) == 0
    assert made.usage().evicted == 0


def test_the_longest_unused_enclave_loses_exactly_the_pages_that_are_needed() -> None:
    made = epc(1000, 1, 2)
    made.add(1, 0, 400, RW)
    made.add(2, 0, 700, RW)
    # 1000 pages, of them 2 SECS and 1 + 2 VA: 995 for the two enclaves.
    assert made.usage().evicted == 400 + 700 - 995
    assert made.usage().used == 1000
    assert made.touch(2, 0, 700) == 0
    assert made.touch(1, 0, 400 - BLOCK + 1) == 105


def test_adding_a_page_counts_as_using_its_block() -> None:
    made = epc(1000, 1, 2)
    made.add(1, 0, 200, RW)
    made.add(2, 0, 256, RW)
    made.add(1, 200, 1, RW)
    made.add(2, 256, 543, RW)
    assert made.touch(1, 0, 201) == 0


def test_an_enclave_larger_than_the_epc_reloads_all_of_itself_in_each_round() -> None:
    made = epc(1000, 1)
    made.add(1, 0, 6 * BLOCK, RW)
    for _ in range(3):
        assert made.touch(1, 0, 6 * BLOCK) == 6 * BLOCK
    usage = made.usage()
    assert usage.evicted - usage.reloaded == usage.committed - usage.used


@pytest.mark.parametrize(("enclave", "first", "count"), [(1, 10, 1), (1, 0, 11), (2, 0, 1), (1, 30, 1)])
def test_refuses_to_use_pages_that_were_never_added(enclave: int, first: int, count: int) -> None:
    made = epc(1000, 1)
    made.add(1, 0, 10, RW)
    made.add(1, 20, 10, R)
    with pytest.raises(MalformedError) as raised:
        made.touch(enclave, first, count)
    assert raised.value.code == "epcm.page.absent"
    assert made.usage().used == epc_need(20).pages


def test_pages_of_two_runs_can_be_used_together() -> None:
    made = epc(1000, 1)
    made.add(1, 0, 10, RW)
    made.add(1, 10, 10, R)
    assert made.touch(1, 0, 20) == 0


def test_removing_an_enclave_gives_everything_back() -> None:
    made = epc(1000, 1, 2)
    made.add(1, 0, 900, RW)
    made.add(2, 0, 900, RW)
    made.remove(1)
    assert made.usage().committed == epc_need(900).pages
    made.remove(2)
    assert (made.usage().used, made.usage().committed) == (0, 0)
    with pytest.raises(MalformedError):
        made.touch(2, 0, 1)


def test_refuses_version_arrays_that_would_fill_the_epc_and_adds_nothing() -> None:
    made = epc(BLOCK + 10, 1)
    before = made.usage()
    with pytest.raises(UnavailableError) as raised:
        made.add(1, 0, 10 * 512, RW)
    assert raised.value.code == "epc.exhausted"
    assert made.usage() == before
    assert made.entry(1, 0) is None
    made.add(1, 0, 9 * 512 - 1, RW)
    assert made.usage().used == BLOCK + 10


def test_refuses_a_secs_that_has_no_room_and_forgets_the_enclave() -> None:
    made = epc(BLOCK + 1, 1)
    with pytest.raises(UnavailableError) as raised:
        made.create(2)
    assert raised.value.code == "epc.exhausted"
    assert (made.usage().used, made.usage().committed) == (1, 1)
