from bastide.catalogue.alibaba import ALIBABA
from bastide.catalogue.azure import DCDSV3, DCSV2, DCSV3
from bastide.catalogue.ibm import IBM
from bastide.catalogue.lookup import ALL_CLASSES
from bastide.catalogue.model import SgxGeneration
from bastide.units import GIB, MIB


def test_every_class_states_source_and_date_and_sizes():
    for one in ALL_CLASSES:
        assert one.source
        assert one.date.year >= 2026
        assert one.vcpus > 0
        assert one.memory_allocatable > 0
        assert one.cpu_allocatable > 0


def test_class_names_are_unique_without_case_and_prefix():
    names = [one.name.lower().removeprefix("standard_").removeprefix("ecs.") for one in ALL_CLASSES]
    assert len(set(names)) == len(names)


def test_a_class_has_a_generation_exactly_when_it_has_epc():
    assert all((one.generation is None) == (one.epc_nominal == 0) for one in ALL_CLASSES)


def test_observed_epc_never_exceeds_the_nominal_one():
    assert all(one.epc_allocatable <= one.epc_nominal for one in ALL_CLASSES)


def test_azures_old_sizes_are_sgx1_with_few_mib():
    assert [one.epc_nominal // MIB for one in DCSV2] == [28, 56, 112, 168]
    assert {one.generation for one in DCSV2} == {SgxGeneration.SGX1}


def test_azures_sizes_with_and_without_local_disk_have_the_same_epc():
    assert [one.epc_nominal for one in DCSV3] == [one.epc_nominal for one in DCDSV3]
    assert DCSV3[-1].epc_nominal == 256 * GIB


def test_alibabas_sizes_split_memory_evenly():
    assert all(one.epc_nominal == one.memory for one in ALIBABA)


def test_ibms_names_tell_cores_and_memory():
    for one in IBM:
        cores, memory = one.name.split("-")[1].split("x")
        assert (one.vcpus, one.memory // GIB) == (int(cores), int(memory))
