"""Room ``dcap``: quote x collateral x instant -> verdict.

::

    verdict = verify(quote, Collateral(...), datetime.now(UTC))  # under STRICT: verdict.policy says so
    if not verdict.acceptable:
        for check in verdict.refusals:
            print(check.name, check.expected, check.seen, check.hint)

Who verifies many quotes keeps a :class:`Verifier`, which gives the same verdicts sooner.
"""

from bastide.dcap.appraisal import INTEL, STRICT, AppraisalPolicy
from bastide.dcap.collateral import Collateral, collateral_hashes
from bastide.dcap.levels import TcbStatus
from bastide.dcap.prepared import PreparedCollateral
from bastide.dcap.status import QvlStatus
from bastide.dcap.verdict import Verdict
from bastide.dcap.verifier import Verifier
from bastide.dcap.verify import verify

__all__ = [
    "INTEL",
    "STRICT",
    "AppraisalPolicy",
    "Collateral",
    "PreparedCollateral",
    "QvlStatus",
    "TcbStatus",
    "Verdict",
    "Verifier",
    "collateral_hashes",
    "verify",
]
