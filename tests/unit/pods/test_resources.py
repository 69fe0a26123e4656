import pytest

from bastide.errors import MalformedError
from bastide.pods.resources import (
    DIALECTS,
    EPC,
    LARGEST_COUNT_EPC,
    SMALLEST_EPC,
    Unit,
    device_count,
    dialect_of,
    epc_of,
    looks_like_sgx,
)
from bastide.units import MIB, PAGE_SIZE

AZURE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
PAGES = "intel.com/sgx"
MIB_NAMES = [dialect.resource for dialect in DIALECTS if dialect.unit is Unit.MIB]
DEVICE_NAMES = [dialect.resource for dialect in DIALECTS if dialect.unit is Unit.DEVICES]


def refusal(resource: str, quantity: object) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        epc_of(resource, quantity)
    return caught.value


def test_knows_every_name_once() -> None:
    assert len({dialect.resource for dialect in DIALECTS}) == len(DIALECTS) == 11
    assert all(dialect_of(dialect.canonical) is not None for dialect in DIALECTS)
    assert {dialect.canonical for dialect in DIALECTS if dialect.counts_epc} == {EPC}


@pytest.mark.parametrize(
    ("resource", "quantity", "size"),
    [
        (EPC, "10Mi", 10 * MIB),
        (EPC, 10485760, 10 * MIB),
        (EPC, "10485760", 10 * MIB),
        (EPC, 10485760.0, 10 * MIB),
        (EPC, "1.5Gi", 1536 * MIB),
        (EPC, "1e6", 1_000_000),
        (EPC, SMALLEST_EPC, SMALLEST_EPC),
        (EPC, 0, 0),
        (AZURE, 10, 10 * MIB),
        (AZURE, "10", 10 * MIB),
        (AZURE, "1k", 1000 * MIB),
        (AZURE, LARGEST_COUNT_EPC // MIB - 1, LARGEST_COUNT_EPC - MIB),
        (PAGES, 5000, 5000 * PAGE_SIZE),
        (PAGES, "2k", 2000 * PAGE_SIZE),
        (PAGES, "2Ki", 2048 * PAGE_SIZE),
    ],
)
def test_reads_a_quantity_in_the_unit_of_its_resource(resource: str, quantity: object, size: int) -> None:
    assert epc_of(resource, quantity).bytes == size


@pytest.mark.parametrize("resource", MIB_NAMES)
def test_ten_is_ten_mebibytes_in_every_name_that_counts_them(resource: str) -> None:
    ask = epc_of(resource, 10)

    assert ask.bytes == 10 * MIB
    assert ask.dialect.canonical == EPC


@pytest.mark.parametrize("quantity", [512, "512", 1234, SMALLEST_EPC - 1, 10])
def test_names_the_slip_where_bytes_are_written_and_mebibytes_meant(quantity: object) -> None:
    error = refusal(EPC, quantity)

    assert error.code == "epc.unit-slip"
    assert f'"{quantity}Mi"' in (error.hint or "")


@pytest.mark.parametrize("quantity", ["10Ki", "1e3", "42k"])
def test_refuses_epc_that_cannot_hold_an_enclave(quantity: str) -> None:
    assert refusal(EPC, quantity).code == "epc.too-small"


@pytest.mark.parametrize("quantity", ["10Mi", "10M", 10485760, "10485760", LARGEST_COUNT_EPC // MIB, "1Ki"])
@pytest.mark.parametrize("resource", MIB_NAMES)
def test_names_the_slip_where_mebibytes_are_counted_and_bytes_written(resource: str, quantity: object) -> None:
    assert refusal(resource, quantity).code == "epc.unit-slip"


def test_says_what_to_write_instead_of_bytes() -> None:
    assert "10 TiB" in refusal(AZURE, "10Mi").message
    assert refusal(AZURE, "10Mi").hint == "write 10 for 10 MiB"
    assert refusal(AZURE, 10485760).hint == "write 10 for 10 MiB"
    assert refusal(PAGES, "10Mi").hint == "write 2560 for 10 MiB"


@pytest.mark.parametrize("quantity", ["10Mi", "1Gi", LARGEST_COUNT_EPC // PAGE_SIZE])
def test_names_the_slip_where_pages_are_counted_and_bytes_written(quantity: object) -> None:
    assert refusal(PAGES, quantity).code == "epc.unit-slip"


@pytest.mark.parametrize(
    "quantity",
    ["", "ten", "10 Mi", "10MB", "-10Mi", -10, "0.5", 1.5, "100m", True, None, [], {}, 1 << 63, "9Ei", "1e500", "i"],
)
@pytest.mark.parametrize("resource", [EPC, AZURE, PAGES])
def test_refuses_what_is_no_whole_quantity(resource: str, quantity: object) -> None:
    assert refusal(resource, quantity).code == "epc.quantity"


def test_explains_the_suffix_m() -> None:
    assert refusal(EPC, "512m").hint == '"m" means thousandths; write 512Mi for MiB'


@pytest.mark.parametrize("quantity", ["{{ .Values.epc }}Mi", "${EPC}", "<size>"])
def test_calls_a_placeholder_a_placeholder(quantity: str) -> None:
    assert "placeholder" in refusal(EPC, quantity).message


@pytest.mark.parametrize("resource", ["cpu", "sgx.intel.com/enclave", "sgx.intel.com/ecp"])
def test_refuses_names_that_count_no_epc(resource: str) -> None:
    assert refusal(resource, 10).code == "epc.resource"


@pytest.mark.parametrize("resource", DEVICE_NAMES)
def test_counts_devices(resource: str) -> None:
    assert device_count(resource, "1") == device_count(resource, 1) == 1


@pytest.mark.parametrize("quantity", ["many", -1, "0.5", None, True])
def test_refuses_what_is_no_number_of_devices(quantity: object) -> None:
    with pytest.raises(MalformedError) as caught:
        device_count("sgx.intel.com/enclave", quantity)
    assert caught.value.code == "device.quantity"


@pytest.mark.parametrize(
    "resource", [*(dialect.resource for dialect in DIALECTS), "sgx.intel.com/ecp", "vendor.com/sgx-epc"]
)
def test_sees_the_family_of_sgx_names(resource: str) -> None:
    assert looks_like_sgx(resource)


@pytest.mark.parametrize("resource", ["cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi", "sgx", "intel.com/qat"])
def test_leaves_other_resources_alone(resource: str) -> None:
    assert not looks_like_sgx(resource)
    assert dialect_of(resource) is None
