"""Fuzz target: quotes of every version, from any bytes to a verdict.

What must hold for every input: it is a quote or MalformedError; a quote is built back byte for byte; its verification
ends in a verdict; and no verdict is acceptable, since nobody has the keys of the platform made here.
"""

import sys
from datetime import UTC, datetime, timedelta

import atheris

with atheris.instrument_imports(include=["bastide.sgx", "bastide.dcap", "bastide.pki"]):
    from bastide.dcap import INTEL, PreparedCollateral, verify
    from bastide.errors import MalformedError
    from bastide.sgx.certification import PlatformIdentification
    from bastide.sgx.quote import Quote

from bastide.sim.intel import specimen

_MADE = datetime(2026, 6, 1, tzinfo=UTC)
_SPECIMEN = specimen(_MADE)
_PREPARED = PreparedCollateral.of(_SPECIMEN.collateral, _SPECIMEN.root)


def test_one_input(data: bytes) -> None:
    """Parse, build, verify."""
    try:
        quote = Quote.parse(data)
    except MalformedError:
        return
    if quote.build() != data:
        raise AssertionError("the quote is not built back as it was")
    try:
        platform = PlatformIdentification.parse(quote.certification)
    except MalformedError:
        platform = None
    if platform is not None and platform.build() != quote.certification:
        raise AssertionError("the platform is not built back as it was")
    verdict = verify(quote, _PREPARED, _MADE + timedelta(days=1), root=_SPECIMEN.root, policy=INTEL)
    if verdict.acceptable or not verdict.refusals:
        raise AssertionError("a quote without a key is acceptable, or refused without a reason")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
