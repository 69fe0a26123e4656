"""Fuzz target: the policy language, from any bytes to a decision.

What must hold for every input: ``parse`` gives a policy or raises MalformedError; a policy survives being printed and
read again; evaluation ends within its budget with a decision or with the budget's PolicyError; nothing is issued
unless authorized.
"""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.policy", "jmespath"]):
    from bastide.errors import MalformedError, PolicyError
    from bastide.policy import ATTESTATION_SERVICE, Claim, evaluate, parse, render
    from bastide.policy.jmespath_query import search

_CLAIMS = (
    Claim(type="x-ms-sgx-svn", value=2, issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-is-debuggable", value=False, issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-mrsigner", value="cd" * 32, issuer=ATTESTATION_SERVICE),
    Claim(type="events", value='{"Events": [{"a": 1}, {"a": [true, null, "x"]}]}', issuer=ATTESTATION_SERVICE),
    Claim(type="pcrs", value='{"PCRs": [0, 1.5]}', issuer=ATTESTATION_SERVICE, read_only=True),
    Claim(type="x", value=2),
)
_BUDGET = 5_000


class _Budget:
    def __init__(self) -> None:
        self.left = _BUDGET

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise PolicyError("fuzz.budget", "used up")


def _policy(text: str) -> None:
    try:
        policy = parse(text)
    except MalformedError as error:
        if not error.code.startswith("policy."):
            raise AssertionError(error.code) from error
        return
    if parse(render(policy)) != policy:
        raise AssertionError("the printed policy says something else")
    try:
        decision = evaluate(policy, _CLAIMS, budget=_BUDGET)
    except PolicyError:
        return
    if decision.issued and not decision.authorized:
        raise AssertionError("issued without authority")
    if any(claim.read_only for claim in decision.issued):
        raise AssertionError("issued what is read-only")


def _query(text: str) -> None:
    document, _, query = text.partition("\0")
    try:
        search(document, query, _Budget().spend)
    except (MalformedError, PolicyError):
        return


def test_one_input(data: bytes) -> None:
    """Policies for the most part; inputs that begin with NUL are a JSON text and a JMESPath query."""
    text = data.decode("utf-8", "surrogateescape")
    if text.startswith("\0"):
        _query(text[1:])
    else:
        _policy(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
