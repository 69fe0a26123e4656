"""Fuzz target: metadata of the Intel SDK (the content of ``.note.sgxmeta`` in a good ELF file)."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bastide.enclave", "bastide.sgx"]):
    from bastide.enclave.inspect import inspect
    from bastide.enclave.layout import MAX_HASHED
    from bastide.enclave.measure import measure
    from bastide.enclave.read import read_enclave
    from bastide.errors import MalformedError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.enclave_files import SEGMENTS, Elf, Sec

_QUICK = 1 << 22


def test_one_input(data: bytes) -> None:
    """Lay out, inspect, and measure where that is quick."""
    raw = Elf(segments=SEGMENTS, sections=(Sec(name=".note.sgxmeta", type=7, data=data),)).build()
    try:
        enclave = read_enclave(raw)
    except MalformedError:
        return
    inspect(enclave)
    layouts = [block.layout for block in enclave.blocks if block.layout is not None]
    if any(layout.hashed > MAX_HASHED for layout in layouts):
        raise AssertionError("measuring this would take for ever")
    if sum(layout.hashed for layout in layouts) <= _QUICK:
        for measured, layout in zip(measure(enclave), layouts, strict=True):
            pieces: list[bytes] = []
            again = layout.measure(sink=pieces.append).digest()
            if measured.mr_enclave != again or sum(map(len, pieces)) != layout.hashed:
                raise AssertionError("two measurements differ, or the stream has another size than was said")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
