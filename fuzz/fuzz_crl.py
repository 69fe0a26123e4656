"""Fuzz target: revocation lists in DER, PEM and hex.

What must hold for every input: it is a list or MalformedError; it has both dates; and it is not signed by a key made
here, whatever it says.
"""

import sys
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports(include=["bastide.pki"]):
    from bastide.errors import MalformedError
    from bastide.pki.crl import Crl

from bastide.sim.intel import Pki

_ROOT = Pki.create(datetime(2026, 6, 1, tzinfo=UTC)).root.certificate


def test_one_input(data: bytes) -> None:
    """Parse and question."""
    try:
        crl = Crl.parse(data)
    except MalformedError:
        return
    if crl.this_update.tzinfo is None or crl.next_update.tzinfo is None:
        raise AssertionError("a date without a time zone")
    if crl.is_signed_by(_ROOT):
        raise AssertionError("signed without the key")
    crl.revokes(_ROOT)
    crl.is_issued_by(_ROOT)
    crl.is_current(crl.this_update)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
