import hashlib
import tracemalloc

import pytest

from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind
from bastide.enclave.layout import MAX_HASHED, EnclaveLayout, PageRun
from bastide.enclave.measure import measure, pages_to_measure, write_sgxs
from bastide.enclave.read import read_enclave
from bastide.errors import MalformedError
from bastide.sgx.secs import SecInfo
from support.enclave_files import REG_RW, TABLE, Blob, OeFile, expected_intel, intel_enclave, signed_intel_enclave
from support.sgx_values import MR_ENCLAVE, sigstruct


def test_valid_signature_and_right_measurement_are_two_answers() -> None:
    (good,) = measure(read_enclave(signed_intel_enclave()))
    assert (good.signature_valid, good.matches, good.mr_enclave) == (True, True, expected_intel().digest())
    (other,) = measure(read_enclave(signed_intel_enclave(enclave_hash=MR_ENCLAVE)))
    assert (other.signature_valid, other.matches) == (True, False)


def test_a_changed_enclave_keeps_its_signature_and_loses_its_measurement() -> None:
    raw = signed_intel_enclave()
    at = raw.index(b"datadata")
    (found,) = measure(read_enclave(raw[:at] + b"DATA" + raw[at + 4 :]))
    assert (found.signature_valid, found.matches) == (True, False)


def test_a_changed_signature_is_not_valid() -> None:
    raw = signed_intel_enclave()
    at = raw.index(sigstruct().modulus) + 400
    (found,) = measure(read_enclave(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]))
    assert (found.signature_valid, found.matches) == (False, True)


def test_an_unsigned_enclave_is_measured_without_answers() -> None:
    (found,) = measure(read_enclave(intel_enclave()))
    assert (found.mr_enclave, found.signature_valid, found.matches) == (expected_intel().digest(), None, None)


def test_a_bare_signature_gives_no_measurement() -> None:
    (found,) = measure(read_enclave(sigstruct().build()))
    assert (found.mr_enclave, found.signature_valid, found.matches) == (None, True, None)


def test_equal_layouts_are_hashed_once() -> None:
    seen: list[int] = []
    enclave = read_enclave(intel_enclave(Blob(), Blob(version=(1, 4)), Blob(version=(2, 1), table=TABLE[:1])))
    found = measure(enclave, progress=seen.append)
    assert found[0].mr_enclave == found[1].mr_enclave != found[2].mr_enclave
    assert sum(seen) == pages_to_measure(enclave) == 12 + 7


def test_thirty_one_million_heap_pages_are_measured_in_little_memory() -> None:
    enclave = read_enclave(OeFile(heap=31_000_000, stack=1, threads=1).build())
    tracemalloc.start()
    (found,) = measure(enclave)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.mr_enclave is not None
    assert pages_to_measure(enclave) > 31_000_000
    assert peak < 8 << 20


def test_the_written_stream_hashes_to_the_measurement() -> None:
    pieces: list[bytes] = []
    mr_enclave = write_sgxs(read_enclave(intel_enclave()).blocks[0], pieces.append)
    assert hashlib.sha256(b"".join(pieces)).digest() == mr_enclave == expected_intel().digest()


def test_no_stream_is_written_of_what_cannot_be_measured() -> None:
    with pytest.raises(MalformedError) as caught:
        write_sgxs(read_enclave(sigstruct().build()).blocks[0], bytes)
    assert caught.value.code == "enclave.measure.impossible"


def test_refuses_blocks_that_together_hash_more_than_one_enclave_may() -> None:
    layouts = [
        EnclaveLayout(
            size=1 << 46,
            ssa_frame_size=size,
            runs=(PageRun(offset=0, secinfo=SecInfo.of_flags(REG_RW), zero_pages=pages),),
        )
        for size, pages in ((1, MAX_HASHED // 64 - 1), (2, 1))
    ]
    blocks = tuple(EnclaveBlock(name=str(n), layout=one) for n, one in enumerate(layouts))
    with pytest.raises(MalformedError) as caught:
        measure(EnclaveFile(kind=EnclaveKind.INTEL_SDK, blocks=blocks))
    assert caught.value.code == "enclave.layout.work"
