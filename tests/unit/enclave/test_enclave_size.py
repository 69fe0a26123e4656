import datetime

import pytest

from bastide.catalogue.lookup import find_class
from bastide.catalogue.model import NodeClass
from bastide.enclave.read import read_enclave
from bastide.enclave.size import fit, size
from bastide.errors import ConfigError, MalformedError
from bastide.units import GIB, Bytes
from support.enclave_files import HEAP_AT, TABLE, Blob, Line, OeFile, intel_enclave
from support.sgx_values import sigstruct

PLAIN = NodeClass(
    name="plain", provider="x", vcpus=2, memory=Bytes(8 * GIB), source="x", date=datetime.date(2026, 11, 23)
)
DYNAMIC = Blob(table=(*TABLE, Line(id=3, attributes=8, pages=1000, rva=HEAP_AT)))


def test_counts_pages_at_load_with_secs_and_version_arrays() -> None:
    found = size(read_enclave(intel_enclave()))
    assert (found.at_load.loaded, found.at_load.secs, found.at_load.version_arrays) == (12, 1, 1)
    assert found.limit == "1Mi"
    assert found.elrange == 0x100000


def test_a_limit_never_equals_the_bare_heap() -> None:
    found = size(read_enclave(OeFile(heap=GIB // 4096, stack=0, threads=0).build()))
    assert found.at_load.loaded > GIB // 4096
    assert found.limit == "1027Mi"


def test_processes_multiply() -> None:
    one, four = (size(read_enclave(intel_enclave()), processes=count) for count in (1, 4))
    assert four.at_load.pages == 4 * one.at_load.pages


def test_dynamic_memory_counts_only_with_edmm() -> None:
    enclave = read_enclave(intel_enclave(DYNAMIC))
    without, with_edmm = size(enclave), size(enclave, edmm=True)
    assert without.grown == without.at_load
    assert with_edmm.at_load == without.at_load
    assert with_edmm.grown.loaded == 1012
    assert with_edmm.limit == "4Mi"


def test_of_several_blocks_the_largest_counts() -> None:
    found = size(read_enclave(intel_enclave(Blob(version=(1, 4), table=TABLE[:1]), Blob(version=(2, 4)))))
    assert found.block == "metadata 2.4"


@pytest.mark.parametrize("processes", [0, -1, 10_001])
def test_refuses_impossible_numbers_of_processes(processes: int) -> None:
    with pytest.raises(ConfigError) as caught:
        size(read_enclave(intel_enclave()), processes=processes)
    assert caught.value.code == "enclave.size.processes"


def test_refuses_what_has_no_layout() -> None:
    with pytest.raises(MalformedError) as caught:
        size(read_enclave(sigstruct().build()))
    assert caught.value.code == "enclave.size.unknown"


def test_says_that_it_fits() -> None:
    found = fit(Bytes(GIB), find_class("DC2s_v3"))
    assert (found.fits, found.overcommit, found.slowdown) == (True, 0.0, None)
    assert "fit into" in found.sentence


def test_says_by_how_much_it_is_too_large_and_what_that_costs() -> None:
    node_class = find_class("DC2s_v3")
    found = fit(Bytes(node_class.epc_allocatable * 5 // 4), node_class)
    assert not found.fits
    assert found.overcommit == pytest.approx(0.25)
    assert "25.0%" in found.sentence
    assert found.slowdown is not None
    assert found.slowdown.typical > 1
    assert found.slowdown.source


def test_a_class_without_epc_runs_no_enclave() -> None:
    found = fit(Bytes(1), PLAIN)
    assert (found.fits, found.overcommit, found.slowdown) == (False, 0.0, None)
    assert "no EPC" in found.sentence
