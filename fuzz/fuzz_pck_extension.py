"""Fuzz target: the SGX extension of PCK certificates.

What must hold for every input: it is an extension or MalformedError; an extension is built back byte for byte, since
there is one DER form of each; and its SVNs are 16 bytes and a number of 16 bits.
"""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.pki"]):
    from bastide.errors import MalformedError
    from bastide.pki.pck import SgxExtensions


def test_one_input(data: bytes) -> None:
    """Parse and build."""
    try:
        platform = SgxExtensions.parse(data)
    except MalformedError:
        return
    if platform.build() != data:
        raise AssertionError("the extension is not built back as it was")
    if len(bytes(platform.tcb.components)) != 16 or not 0 <= platform.tcb.pce_svn <= 0xFFFF:
        raise AssertionError("an SVN is out of range")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
