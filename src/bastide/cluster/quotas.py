"""A ResourceQuota with old names, made to count: what admission and the controller both do to it."""

from bastide.cluster.gate.names import CHANGED_ANNOTATION
from bastide.pods.edit import Change
from bastide.pods.quota import COUNTED, HARD, keep_in_step
from bastide.pods.tree import Path, at

_TOLD: Path = ("metadata", "annotations", CHANGED_ANNOTATION)


def quota_changes(quota: dict[str, object], before: dict[str, object] | None = None) -> tuple[Change, ...]:
    """The changes of ``keep_in_step``, and the annotation that tells of them; empty where there is nothing to do.

    Raises:
        MalformedError: as ``keep_in_step``.
    """
    changes = keep_in_step(quota, before)
    if not changes:
        return ()
    words = told(changes)
    known = at(quota, _TOLD)
    return changes if known == words else (*changes, Change(path=_TOLD, before=known, after=words, why=""))


def told(changes: tuple[Change, ...]) -> str:
    """What was changed, in one line."""
    return "; ".join(f"{COUNTED}={one.after} ({one.why})" for one in changes if one.path == (*HARD, COUNTED))
