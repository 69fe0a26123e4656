"""Fuzz target: TCB info for SGX and TDX.

What must hold for every input: it is TCB info or MalformedError; its levels stand highest first, none twice, with 16
components each; the best platform reaches a level; what is signed is part of the input.
"""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.dcap"]):
    from bastide.dcap.tcb import TcbInfo
    from bastide.errors import MalformedError

_BEST = (255,) * 16
_BEST_PCE = (1 << 32) - 1


def test_one_input(data: bytes) -> None:
    """Parse and match."""
    try:
        info = TcbInfo.parse(data)
    except MalformedError:
        return
    ranks = [level.rank for level in info.levels]
    if ranks != sorted(set(ranks), reverse=True):
        raise AssertionError("levels out of order")
    tee_tcb_svn = bytes(_BEST) if info.id == "TDX" else None
    if info.level_for(_BEST, _BEST_PCE, tee_tcb_svn) is None:
        raise AssertionError("the best platform reaches no level")
    if any(len(level.components) != 16 or min(level.components) < 0 for level in info.levels):
        raise AssertionError("components out of range")
    if info.signed not in data or len(info.signature) != 64:
        raise AssertionError("what is signed is not what came")
    for identity in info.tdx_module_identities:
        identity.level_for(0)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
