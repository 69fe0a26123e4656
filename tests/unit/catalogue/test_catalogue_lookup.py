import pytest

from bastide.catalogue.generic import GENERIC
from bastide.catalogue.lookup import ALL_CLASSES, find_class, largest_epc
from bastide.errors import ConfigError
from bastide.units import GIB


@pytest.mark.parametrize("name", ["DC4s_v3", "Standard_DC4s_v3", "standard_dc4S_V3", " DC4s_v3 "])
def test_finds_an_azure_size_with_or_without_prefix_in_any_case(name):
    assert find_class(name).name == "Standard_DC4s_v3"


def test_finds_an_alibaba_size_without_its_prefix():
    assert find_class("g7t.xlarge").name == "ecs.g7t.xlarge"


def test_an_unknown_name_is_refused_with_near_names():
    with pytest.raises(ConfigError) as caught:
        find_class("DC4_v3")
    assert caught.value.code == "catalogue.class.unknown"
    assert "Standard_DC4s_v3" in str(caught.value.hint)


def test_a_name_like_no_other_is_refused_with_the_whole_list():
    with pytest.raises(ConfigError) as caught:
        find_class("§" * 5000)
    assert str(caught.value.hint).startswith("known are Standard_DC1s_v2, ")
    assert all(one.name in str(caught.value.hint) for one in ALL_CLASSES)
    assert len(caught.value.message) < 200


def test_looks_only_among_the_given_classes():
    with pytest.raises(ConfigError):
        find_class("DC4s_v3", GENERIC)


def test_the_largest_epc_is_that_of_the_largest_class():
    assert largest_epc() == 256 * GIB
    assert largest_epc(GENERIC) == 0
    assert largest_epc(()) == 0
