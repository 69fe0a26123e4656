"""Two ways to MRENCLAVE: the signer's fast one, and the instructions of the simulated processor one after the other."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.sgx.measurement import Measurement
from bastide.sgx.secs import SecInfo
from bastide.sgx.sigstruct import sign
from bastide.sgx.types import MrEnclave
from bastide.sim.images import EnclaveImage, PageRun
from bastide.units import PAGE_SIZE
from support.enclaves import REG_R, REG_RW, build, cpu, image, started
from support.sgx_values import signing_key

CODES = st.binary(max_size=2 * PAGE_SIZE + 1)
CONTENTS = st.builds(lambda byte, pages: bytes([byte]) * (PAGE_SIZE * pages), st.integers(0, 255), st.integers(1, 2))
RUNS = st.lists(
    st.tuples(st.sampled_from([REG_R, REG_RW]), st.one_of(CONTENTS, st.integers(1, 5))), min_size=1, max_size=4
)


@settings(max_examples=40, deadline=None)
@given(CODES, st.integers(0, 40))
def test_an_image_measures_as_signed_when_it_is_built_by_instructions(code: bytes, heap_pages: int) -> None:
    processor, built = cpu(), image(code, heap_pages=heap_pages)
    eid = build(processor, built)
    identity = processor.einit(eid, built.sigstruct, launch_key_hash=built.sigstruct.mr_signer)
    assert identity.mr_enclave == built.sigstruct.enclave_hash
    assert processor.epc.usage().committed == built.epc.pages


@settings(max_examples=40, deadline=None)
@given(RUNS, st.randoms(use_true_random=False))
def test_pages_in_any_order_measure_the_same_on_both_ways(
    parts: list[tuple[SecInfo, bytes | int]], random: Random
) -> None:
    built = _scattered(parts, random)
    processor = cpu()
    inside = started(processor, built)
    assert processor.identity(inside.eid).mr_enclave == built.sigstruct.enclave_hash


def _scattered(parts: list[tuple[SecInfo, bytes | int]], random: Random) -> EnclaveImage:
    """An image of these page runs, one behind the other in its addresses and shuffled in the order of loading."""
    runs, offset = [], 0
    for secinfo, part in parts:
        if isinstance(part, int):
            runs.append(PageRun(offset=offset, secinfo=secinfo, zero_pages=part))
            offset += part * PAGE_SIZE
        else:
            runs.append(PageRun(offset=offset, secinfo=secinfo, content=part))
            offset += len(part)
    random.shuffle(runs)
    base = image()
    secs = replace(base.secs, size=1 << 20)
    signed = sign(replace(base.sigstruct, enclave_hash=_fast(secs.size, runs)), signing_key())
    return replace(base, secs=secs, runs=tuple(runs), sigstruct=signed)


def _fast(size: int, runs: list[PageRun]) -> MrEnclave:
    measurement = Measurement()
    measurement.ecreate(size, 1)
    for run in runs:
        measurement.eadd_unmeasured_run(run.offset, run.zero_pages, run.secinfo.flags)
        for start in range(0, len(run.content), PAGE_SIZE):
            measurement.add_page(run.offset + start, run.secinfo.flags, run.content[start : start + PAGE_SIZE])
    return measurement.digest()
