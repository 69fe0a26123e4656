import pytest

from bastide.errors import MalformedError
from bastide.sim.faults import Fault
from bastide.sim.images import EnclaveImage
from bastide.sim.launch import Signers, enclave_of
from bastide.units import MIB, PAGE_SIZE, Bytes
from support.enclaves import stranger_key
from support.sgx_values import signing_key

EATER = "bastide.dev/lab/epc-eater"


def launched(image: str, *faults: Fault, epc: int = 10 * MIB) -> tuple[str, EnclaveImage]:
    signers = Signers(own=signing_key(), stranger=stranger_key())
    app, built = enclave_of(image, Bytes(epc), signers=signers, faults=frozenset(faults))
    return app.name, built


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("oeciteam/sgx-test:1.0", "hello"),
        ("docker.io/oeciteam/sgx-test@sha256:" + "ab" * 32, "hello"),
        ("mcr.microsoft.com/acc/samples/oe-helloworld:latest", "hello"),
        (EATER, "epc_eater"),
        ("bastide.dev/lab/sealer:1", "sealer"),
        ("example.org/oeciteam/sgx-test:1.0", "opaque"),
        ("redis", "opaque"),
    ],
)
def test_a_program_is_known_by_its_repository(image: str, program: str) -> None:
    name, built = launched(image)
    assert (name, built.name) == (program, program)
    assert built.sigstruct.signature_is_valid()


def test_a_program_of_fixed_size_takes_no_more_than_it_needs() -> None:
    assert launched("oeciteam/sgx-test:1.0")[1].heap_pages == 1024


@pytest.mark.parametrize("image", ["redis:7", "redis", "redis:latest", "redis:Mi", "redis:1.2.3Mi", "redis:0Mi"])
def test_an_unknown_program_fills_what_it_asked(image: str) -> None:
    built = launched(image)[1]
    assert built.epc.size <= 10 * MIB < built.epc.size + PAGE_SIZE


@pytest.mark.parametrize(("tag", "size"), [("40Mi", 40 << 20), ("8Ki", 8 << 10), ("1Gi", 1 << 30), ("1.5Mi", 3 << 19)])
def test_a_tag_that_is_a_size_is_the_size_of_the_heap(tag: str, size: int) -> None:
    assert launched(f"{EATER}:{tag}")[1].heap_pages == size // PAGE_SIZE


def test_a_tag_of_an_absurd_size_is_an_ordinary_tag() -> None:
    assert launched(f"{EATER}:999999999Gi")[1].epc.size <= 10 * MIB


def test_refuses_a_request_that_holds_no_enclave() -> None:
    with pytest.raises(MalformedError) as raised:
        launched("redis", epc=4096)
    assert raised.value.code == "image.epc.small"


def test_refuses_an_image_that_is_no_reference() -> None:
    with pytest.raises(MalformedError) as raised:
        launched("oeciteam/sgx-test: 1.0")
    assert raised.value.code.startswith("image.")


def test_a_good_enclave_is_signed_by_the_lab_without_debug() -> None:
    sigstruct = launched("redis")[1].sigstruct
    assert not sigstruct.attributes.debug
    assert sigstruct.mr_signer == launched(EATER)[1].sigstruct.mr_signer


def test_faults_break_one_thing_each() -> None:
    good = launched("redis")[1]
    assert launched("redis", Fault.DEBUG_ENCLAVE)[1].secs.attributes.debug
    assert launched("redis", Fault.UNKNOWN_SIGNER)[1].sigstruct.mr_signer != good.sigstruct.mr_signer
    assert not launched("redis", Fault.BROKEN_SIGSTRUCT)[1].sigstruct.signature_is_valid()
    changed = launched("redis", Fault.CHANGED_PAGE)[1]
    assert changed.sigstruct == good.sigstruct
    assert changed.runs[0] != good.runs[0]


def test_faults_that_come_later_leave_the_enclave_good() -> None:
    later = [Fault.TAMPERED_QUOTE, Fault.REVOKED_PCK, Fault.EXPIRED_COLLATERAL, Fault.FOREIGN_RUNTIME_DATA]
    assert launched("redis", *later)[1] == launched("redis")[1]
