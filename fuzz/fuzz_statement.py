"""Fuzz target: statements. The input is read as a DSSE envelope, and as the statement in one.

Nobody can make another signature by the one key that is believed: an envelope that opens holds what that key signed.
"""

import base64
import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bastide.enclave", "bastide.token"]):
    from bastide.enclave.dsse import unseal
    from bastide.enclave.statement import PAYLOAD_TYPE, Statement
    from bastide.errors import MalformedError, UntrustedError

sys.path.insert(0, str(Path(__file__).parent))

from make_corpora import SIGNED_STATEMENT, STATEMENT_KEY

_KEYS = {"release": STATEMENT_KEY.public_key()}
_SIGNED = base64.b64decode(json.loads(SIGNED_STATEMENT)["payload"])


def test_one_input(data: bytes) -> None:
    """Open it, and read it."""
    try:
        payload, _ = unseal(data, PAYLOAD_TYPE, _KEYS)
        if payload != _SIGNED:
            raise AssertionError("an envelope opened with what nobody signed")
    except (MalformedError, UntrustedError):
        pass
    try:
        statement = Statement.parse(data)
    except MalformedError:
        return
    if not statement.enclaves or Statement.parse(statement.build()) != statement:
        raise AssertionError("a statement that says another thing when it is written and read again")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
