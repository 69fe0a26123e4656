"""The Python in ``docs/reference/quote.md`` runs, and gives what stands beside it."""

import re
from ast import literal_eval
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from bastide import dcap
from bastide.sim.intel import specimen
from support.commands import CHECKOUT

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GIVES = re.compile(r"^(\S.*?)  # (\(.*\))$", re.MULTILINE)


def test_examples_of_the_reference_run(monkeypatch: pytest.MonkeyPatch) -> None:
    quote, collateral, root = specimen(datetime.now(UTC) - timedelta(days=1))
    monkeypatch.setattr(dcap, "verify", partial(dcap.verify, root=root))
    monkeypatch.setattr(dcap, "Verifier", partial(dcap.Verifier, root=root))
    names: dict[str, object] = {"quote": quote, "collateral": collateral}
    seen, policies = [], []
    for block in BLOCK.findall((CHECKOUT / "docs" / "reference" / "quote.md").read_text()):
        for part in block.split("\n\n"):
            exec(part, names)
            seen += [(eval(code, names), literal_eval(gives)) for code, gives in GIVES.findall(part)]
            verdict = names.pop("verdict", None)
            if isinstance(verdict, dcap.Verdict):
                assert verdict.acceptable
                policies.append(verdict.policy.name)
    assert seen == [((True, "strict"), (True, "strict"))]
    assert policies == ["strict", "billing", "billing"]
