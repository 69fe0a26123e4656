"""Fuzz target: SIGSTRUCTs."""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.sgx", "bastide.enclave.locate"]):
    from bastide.enclave.locate import carve
    from bastide.errors import MalformedError
    from bastide.sgx.sigstruct import SigStruct


def test_one_input(data: bytes) -> None:
    """Parse, build back, check the signature; find it again between other bytes."""
    try:
        sigstruct = SigStruct.parse(data)
    except MalformedError:
        return
    if sigstruct.build() != data:
        raise AssertionError("the SIGSTRUCT is not built back as it was")
    sigstruct.signature_is_valid()
    if 3 not in carve(b"abc" + data + b"xyz"):
        raise AssertionError("the SIGSTRUCT is not found in a larger file")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
