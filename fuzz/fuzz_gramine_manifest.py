"""Fuzz target: Gramine's three files: manifest, ``.sig`` and libpal.so, as they lie in an image.

The input is a manifest; after the first NUL byte (no TOML has one) a SIGSTRUCT, after its 1808 bytes a libpal.so.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bastide.enclave"]):
    from bastide.enclave.inspect import inspect
    from bastide.enclave.libpal import read_with_libpals
    from bastide.enclave.measure import measure
    from bastide.enclave.read import read_enclave
    from bastide.errors import MalformedError
    from bastide.sgx.sigstruct import SIGSTRUCT_SIZE

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.gramine_files import LIBPAL

_MOST_HASHED = 1 << 24


class _TooMuchError(Exception):
    """Hashing that much would only make the fuzzer slow."""


def test_one_input(data: bytes) -> None:
    """Read and lay out with the good libpal; then choose between that and the input's own."""
    manifest, _, rest = data.partition(b"\0")
    try:
        enclave = read_enclave(manifest, "x.manifest.sgx", libpal=LIBPAL)
        inspect(enclave)
        if any(block.layout is None for block in enclave.blocks):
            raise AssertionError("a manifest with its libpal has no layout")
    except MalformedError:
        pass
    try:
        _choose(manifest, rest[:SIGSTRUCT_SIZE] or None, rest[SIGSTRUCT_SIZE:])
    except (MalformedError, _TooMuchError):
        return


def _choose(manifest: bytes, sig: bytes | None, libpal: bytes) -> None:
    spent = 0

    def spend(hashed: int) -> None:
        nonlocal spent
        spent += hashed
        if spent > _MOST_HASHED:
            raise _TooMuchError

    enclave = read_with_libpals(manifest, sig=sig, libpals=(libpal, LIBPAL), spend=spend)
    inspect(enclave)
    (block,) = enclave.blocks
    if (block.layout is None) is not bool(enclave.defect):
        raise AssertionError("without a layout there must be a reason, and with one none")
    if block.layout is not None and not measure(enclave)[0].matches:
        raise AssertionError("of several one was taken that does not give what was signed")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
