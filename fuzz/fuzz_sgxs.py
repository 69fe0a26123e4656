"""Fuzz target: SGXS streams. A stream is what MRENCLAVE hashes, so what we measure must be the SHA-256 of the input."""

import hashlib
import sys

import atheris

with atheris.instrument_imports(include=["bastide.enclave", "bastide.sgx"]):
    from bastide.enclave.fortanix import blocks
    from bastide.errors import MalformedError


def test_one_input(data: bytes) -> None:
    """Lay out and measure."""
    try:
        (block,) = blocks(data)
    except MalformedError:
        return
    if block.layout is None or block.layout.hashed != len(data):
        raise AssertionError("the layout has another size than the stream")
    if block.layout.measure().digest() != hashlib.sha256(data).digest():
        raise AssertionError("the layout measures to something else than the stream")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
