"""What TCB info, TDX module identities and enclave identities have in common: a level and Intel's word for it.

Source: Intel PCS API v4, "Get TCB Info" and "Get Quoting Enclave Identity"; Intel quote verification library of
2026-07 (which words stand where, which defects have which status).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bastide.dcap.document import Fields

MAX_LEVELS = 1024
"""Most levels of one list that are read."""
MAX_ADVISORIES = 1024
UINT32_MAX = (1 << 32) - 1


class TcbStatus(StrEnum):
    """What Intel says of a TCB; any other word is an error."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


RELAUNCH_STATUSES = frozenset({TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED})
"""Words for a TD whose platform was updated under it; no document holds them."""

PLATFORM_STATUSES = frozenset(TcbStatus) - RELAUNCH_STATUSES
"""Words that a level of TCB info may have."""

COMPONENT_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
"""Words that a level of a quoting enclave or TDX module may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SvnLevel:
    """The lowest ISVSVN of one level of an enclave or TDX module, and what Intel says of it.

    Attributes:
        isv_svn: lowest ISVSVN of the level.
        status: Intel's word.
        date: last instant whose publications this level takes care of (``tcbDate``).
        advisory_ids: security advisories that apply at this level.
    """

    isv_svn: int
    status: TcbStatus
    date: datetime
    advisory_ids: tuple[str, ...]


def highest_reached(levels: Iterable[SvnLevel], isv_svn: int) -> SvnLevel | None:
    """The first of ``levels`` that ``isv_svn`` reaches, or None."""
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def svn_levels(fields: Fields, largest: int, *, dated: bool = False) -> tuple[SvnLevel, ...]:
    """Member ``tcbLevels`` of an enclave or TDX module identity, highest first whatever order the document has.

    Args:
        fields: the identity.
        largest: highest ISVSVN that can be.
        dated: whether levels of one ISVSVN may differ in their date; then the later one counts.
    """
    levels = []
    for item in fields.children("tcbLevels", MAX_LEVELS, absent="format"):
        date, status, advisory_ids = level_facts(item, COMPONENT_STATUSES)
        isv_svn = item.child("tcb").unsigned("isvsvn", largest)
        levels.append(SvnLevel(isv_svn=isv_svn, status=status, date=date, advisory_ids=advisory_ids))
    ranks = {(level.isv_svn, level.date if dated else None) for level in levels}
    if not levels or len(ranks) != len(levels):
        fields.invalid("tcbLevels", "different levels, at least one", f"{len(levels)} with repetitions")
    return tuple(sorted(levels, key=lambda level: (level.isv_svn, level.date), reverse=True))


def level_facts(
    fields: Fields, words: Collection[TcbStatus], *, no_word: str | None = None
) -> tuple[datetime, TcbStatus, tuple[str, ...]]:
    """``tcbDate``, ``tcbStatus`` and ``advisoryIDs`` of a level: alike everywhere.

    Args:
        fields: the level.
        words: statuses that it may have.
        no_word: how the error code of a status that is no string ends.
    """
    date = fields.date("tcbDate")
    word = fields.text("tcbStatus", wrong=no_word)
    if word not in words:
        fields.invalid("tcbStatus", f"one of {', '.join(sorted(words))}", word)
    return date, TcbStatus(word), fields.texts("advisoryIDs", MAX_ADVISORIES)
