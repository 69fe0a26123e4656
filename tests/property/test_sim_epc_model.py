"""The EPC against a naive model that moves one page at a time."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.errors import BastideError
from bastide.sim.epc import BLOCK, Epc
from bastide.units import Pages

ENCLAVES = st.integers(1, 3)
RANGES = st.tuples(st.integers(0, 900), st.integers(1, 600))
STEPS = st.one_of(
    st.tuples(st.just("add"), ENCLAVES, RANGES),
    st.tuples(st.just("touch"), ENCLAVES, RANGES),
    st.tuples(st.just("remove"), ENCLAVES, st.just((0, 0))),
)


@dataclass
class Model:
    """Pages one by one; the block that was used longest ago loses its lowest page."""

    capacity: int
    added: dict[int, set[int]] = field(default_factory=dict)
    resident: set[tuple[int, int]] = field(default_factory=set)
    used_at: dict[tuple[int, int], int] = field(default_factory=dict)
    clock: int = 0
    evicted: int = 0
    reloaded: int = 0

    @property
    def pinned(self) -> int:
        return sum(1 + -(-(len(pages) + 1) // 512) if pages else 1 for pages in self.added.values())

    def add(self, enclave: int, pages: range) -> str:
        """The code of a refusal, or nothing."""
        if enclave not in self.added:
            if self.pinned + 1 > self.capacity - BLOCK:
                return "epc.exhausted"
            self.added[enclave] = set()
            self.make_room()
        if self.added[enclave] & set(pages):
            return "epcm.page.present"
        before = set(self.added[enclave])
        self.added[enclave] |= set(pages)
        if self.pinned > self.capacity - BLOCK:
            self.added[enclave] = before
            return "epc.exhausted"
        self.make_room()
        for page in pages:
            self.use(enclave, page)
        return ""

    def touch(self, enclave: int, pages: range) -> str:
        if not set(pages) <= self.added.get(enclave, set()):
            return "epcm.page.absent"
        for page in pages:
            self.reloaded += self.use(enclave, page)
        return ""

    def remove(self, enclave: int) -> None:
        del self.added[enclave]
        self.resident = {key for key in self.resident if key[0] != enclave}

    def use(self, enclave: int, page: int) -> bool:
        """Whether the page had to be brought in."""
        self.clock += 1
        self.used_at[enclave, page // BLOCK] = self.clock
        if (enclave, page) in self.resident:
            return False
        self.make_room(1)
        self.resident.add((enclave, page))
        return True

    def make_room(self, count: int = 0) -> None:
        while len(self.resident) + self.pinned + count > self.capacity:
            oldest = min(self.resident, key=lambda key: (self.used_at[key[0], key[1] // BLOCK], key[1]))
            self.resident.remove(oldest)
            self.evicted += 1


def step(epc: Epc, model: Model, action: str, enclave: int, pages: range) -> None:
    if action == "remove":
        if enclave in model.added:
            epc.remove(enclave)
            model.remove(enclave)
        return
    expected_reloads = model.reloaded
    known = enclave in model.added
    expected = model.add(enclave, pages) if action == "add" else model.touch(enclave, pages)
    seen = ""
    try:
        if action == "add":
            if not known:
                epc.create(enclave)
            epc.add(enclave, pages.start, len(pages), 0x203)
        else:
            assert epc.touch(enclave, pages.start, len(pages)) == model.reloaded - expected_reloads
    except BastideError as error:
        seen = error.code
    assert seen == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(BLOCK, 3 * BLOCK), st.lists(STEPS, max_size=12))
def test_counts_equal_those_of_a_model_that_moves_page_by_page(
    capacity: int, steps: list[tuple[str, int, tuple[int, int]]]
) -> None:
    epc, model = Epc(Pages(capacity)), Model(capacity=capacity)
    gone = 0
    for action, enclave, (first, count) in steps:
        before = model.evicted - model.reloaded - gone
        resident = len(model.resident)
        committed = sum(map(len, model.added.values()))
        step(epc, model, action, enclave, range(first, first + count))
        if action == "remove":
            # Pages of the enclave that lay outside went with it.
            gone += (committed - resident) - (sum(map(len, model.added.values())) - len(model.resident))
        usage = epc.usage()
        assert usage.used == len(model.resident) + model.pinned <= capacity
        assert usage.pinned == model.pinned
        assert usage.committed == model.pinned + sum(map(len, model.added.values()))
        assert (usage.evicted, usage.reloaded) == (model.evicted, model.reloaded)
        assert usage.evicted - usage.reloaded - gone == usage.committed - usage.used >= 0
        assert before >= 0
    for enclave in list(model.added):
        epc.remove(enclave)
    assert (epc.usage().used, epc.usage().committed) == (0, 0)
