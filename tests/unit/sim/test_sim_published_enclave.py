"""A real enclave, made and signed by other people's tools, in the simulated processor."""

import json
from typing import Any

import pytest

from bastide.errors import UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.secs import SecInfo, Secs
from bastide.sgx.sigstruct import SigStruct
from bastide.sim.cpu import Cpu
from support.enclaves import add_measured, cpu
from support.vectors import vectors


def refused(code: str, processor: Cpu, eid: int, sigstruct: SigStruct) -> None:
    with pytest.raises(UntrustedError) as raised:
        processor.einit(eid, sigstruct, launch_key_hash=sigstruct.mr_signer)
    assert raised.value.code == code


def sgxs_records() -> tuple[dict[str, Any], bytes, SigStruct]:
    folder = vectors("enclave")
    facts = json.loads((folder / "expected.json").read_text())["sgxs/test_enclave.sgxs"]
    stream = (folder / "sgxs" / "test_enclave.sgxs").read_bytes()
    return facts, stream, SigStruct.parse((folder / "sgxs" / "test_enclave.sig").read_bytes())


def replay(processor: Cpu, stream: bytes, attributes: Attributes) -> int:
    """Every record of an SGXS stream as its instruction; the 16 chunks of a page follow its EADD."""
    at = 64
    frames, size = int.from_bytes(stream[8:12], "little"), int.from_bytes(stream[12:20], "little")
    eid = processor.ecreate(Secs(size=size, ssa_frame_size=frames, attributes=attributes))
    while at < len(stream):
        assert stream[at : at + 8] == b"EADD\0\0\0\0"
        offset, flags = (int.from_bytes(stream[at + 8 + n : at + 16 + n], "little") for n in (0, 8))
        at += 64
        page = b"".join(stream[start + 64 : start + 320] for start in range(at, at + 16 * 320, 320))
        add_measured(processor, eid, offset, SecInfo.of_flags(flags), page)
        at += 16 * 320
    return eid


def test_a_published_enclave_of_another_toolkit_starts() -> None:
    facts, stream, sigstruct = sgxs_records()
    processor = cpu()
    eid = replay(processor, stream, sigstruct.attributes)
    identity = processor.einit(eid, sigstruct, launch_key_hash=sigstruct.mr_signer)
    assert identity.mr_enclave.hex() == facts["sha256_is_mrenclave"]
    assert processor.epc.usage().committed == facts["eadd_pages"] + 2


def test_a_published_enclave_with_one_changed_byte_does_not_start() -> None:
    _, stream, sigstruct = sgxs_records()
    last = stream[:-1] + bytes([stream[-1] ^ 1])
    processor = cpu()
    eid = replay(processor, last, sigstruct.attributes)
    refused("einit.invalid_measurement", processor, eid, sigstruct)


def test_a_published_enclave_does_not_start_with_attributes_that_its_signer_masks() -> None:
    _, stream, sigstruct = sgxs_records()
    processor = cpu()
    eid = replay(processor, stream, Attributes(flags=AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY, xfrm=3))
    refused("einit.invalid_attribute", processor, eid, sigstruct)
