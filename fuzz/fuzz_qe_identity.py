"""Fuzz target: identities of quoting enclaves.

What must hold for every input: it is an identity or MalformedError; its levels stand highest first; an enclave
of all ones can be compared with it; what is signed is part of the input.
"""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.dcap"]):
    from bastide.dcap.identity import EnclaveIdentity
    from bastide.errors import MalformedError
    from bastide.sgx.report import ReportBody

_ONES = ReportBody.parse(b"\xff" * 384, strict=False)


def test_one_input(data: bytes) -> None:
    """Parse and match."""
    try:
        identity = EnclaveIdentity.parse(data)
    except MalformedError:
        return
    svns = [level.isv_svn for level in identity.levels]
    if not svns or svns != sorted(svns, reverse=True):
        raise AssertionError("levels out of order")
    lowest = identity.level_for(svns[-1])
    if lowest is None or lowest.isv_svn != svns[-1] or identity.level_for(svns[-1] - 1) is not None:
        raise AssertionError("the lowest level is not reached as it must be")
    identity.mismatch(_ONES)
    if identity.signed not in data or len(identity.signature) != 64:
        raise AssertionError("what is signed is not what came")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
