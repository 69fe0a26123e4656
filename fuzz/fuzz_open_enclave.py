"""Fuzz target: Open Enclave files."""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.enclave", "bastide.sgx"]):
    from bastide.enclave import open_enclave
    from bastide.enclave.elf import ElfImage
    from bastide.enclave.layout import MAX_HASHED
    from bastide.errors import MalformedError

_QUICK = 1 << 22


def test_one_input(data: bytes) -> None:
    """Lay out, and measure where that is quick."""
    try:
        blocks = open_enclave.blocks(ElfImage.parse(data))
    except MalformedError:
        return
    for block in blocks:
        if block.layout is None or block.layout.hashed > MAX_HASHED:
            raise AssertionError("no layout, or one that would take for ever to measure")
        if block.layout.hashed <= _QUICK:
            block.layout.measure().digest()


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
