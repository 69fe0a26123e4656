"""Real enclaves on the simulated processor: the steps that are measured fast are the steps that are loaded."""

import pytest

from bastide.enclave.read import read_enclave
from bastide.errors import UntrustedError
from bastide.sgx.secs import Secs
from bastide.sgx.sigstruct import SigStruct
from bastide.sim.cpu import Cpu
from bastide.sim.driver import add_pages
from support.enclave_files import PAGE, REG_RW, TCS, PlainMeasurer, intel_enclave, signed_intel_enclave
from support.enclaves import cpu
from support.sgx_values import sigstruct
from support.vectors import vectors


def load(processor: Cpu, raw: bytes, signature: SigStruct | None = None, sig: bytes | None = None) -> int:
    (block, *_) = read_enclave(raw, sig=sig).blocks
    signature = signature or block.sigstruct
    assert block.layout is not None
    assert signature is not None
    secs = Secs(
        size=block.layout.size,
        ssa_frame_size=block.layout.ssa_frame_size,
        attributes=signature.attributes,
        misc_select=signature.misc_select,
    )
    eid = processor.ecreate(secs)
    for run in block.layout.runs:
        add_pages(processor, eid, run)
    processor.einit(eid, signature, launch_key_hash=signature.mr_signer)
    return eid


@pytest.mark.parametrize(
    "name",
    [
        "intel-sdk/intel-libsgx_pce.signed.so.1.25.100.1",
        "intel-sdk/intel-psw-2017-libsgx_pse_pr.signed.so",
        "intel-sdk/intel-psw-2017-libsgx_qe.signed.so",
        "sgxs/test_enclave.sgxs",
    ],
)
def test_a_real_enclave_passes_einit_with_its_real_signature(name: str) -> None:
    path = vectors("enclave") / name
    processor = cpu()
    sig = path.with_suffix(".sig").read_bytes() if path.suffix == ".sgxs" else None
    eid = load(processor, path.read_bytes(), sig=sig)
    (block, *_) = read_enclave(path.read_bytes(), sig=sig).blocks
    assert block.layout is not None
    assert block.sigstruct is not None
    assert processor.identity(eid).mr_enclave == block.layout.measure().digest() == block.sigstruct.enclave_hash
    assert processor.identity(eid).mr_signer == block.sigstruct.mr_signer


def test_an_enclave_of_ours_passes_einit() -> None:
    processor = cpu()
    assert processor.identity(load(processor, signed_intel_enclave())).isv_prod_id == 7


def test_a_signature_for_another_enclave_does_not_pass() -> None:
    with pytest.raises(UntrustedError) as caught:
        load(cpu(), intel_enclave(), signature=sigstruct())
    assert caught.value.code == "einit.invalid_measurement"


def test_partly_measured_and_repeated_pages_are_loaded_as_they_are_measured() -> None:
    stream = (
        PlainMeasurer(1 << 20).pages(0, REG_RW, b"\xcc" * PAGE, 3).pages(4 * PAGE, TCS, b"").bare(8 * PAGE, REG_RW, 2)
    )
    stream.bare(16 * PAGE, REG_RW)
    stream.stream += b"EEXTEND\0" + (16 * PAGE + 512).to_bytes(8, "little") + bytes(48) + b"c" * 256
    (block,) = read_enclave(bytes(stream.stream)).blocks
    assert block.layout is not None
    processor = cpu()
    with pytest.raises(UntrustedError) as caught:
        load(processor, bytes(stream.stream), signature=sigstruct())
    assert stream.digest().hex() in caught.value.message
