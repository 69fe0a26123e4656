"""Fuzz target: Gramine manifests, laid out with a small libpal."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bastide.enclave"]):
    from bastide.enclave.inspect import inspect
    from bastide.enclave.read import read_enclave
    from bastide.errors import MalformedError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.enclave_files import SEGMENTS, Elf

_LIBPAL = Elf(segments=SEGMENTS, entry=0x40).build()


def test_one_input(data: bytes) -> None:
    """Read, lay out, inspect."""
    try:
        enclave = read_enclave(data, "x.manifest.sgx", libpal=_LIBPAL)
    except MalformedError:
        return
    inspect(enclave)
    if any(block.layout is None for block in enclave.blocks):
        raise AssertionError("a manifest with its libpal has no layout")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
