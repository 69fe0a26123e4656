"""A check: one question that was asked on the way to a verdict, with its answer.

Verdicts anywhere in Bastide (quote verification, attestation, admission) are values that hold the list of checks
which led to them, so that a person can see why.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer.

    Attributes:
        name: stable dotted name of the check, such as ``pck.revocation``.
        ok: the answer.
        expected: what would have been right, in words or hex.
        seen: what was there.
        hint: what to do when ``ok`` is false; empty when nothing can be done.
        source: document and clause that asks for it.
    """

    name: str
    ok: bool
    expected: str = ""
    seen: str = ""
    hint: str = ""
    source: str = ""
