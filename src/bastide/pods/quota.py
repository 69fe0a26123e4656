"""ResourceQuota on EPC: what old names say is said in the canonical name too, for that is what pods are counted by.

Admission rewrites pods to ``sgx.intel.com/epc`` before Kubernetes counts them: a quota that names EPC otherwise would
count nothing. A LimitRange cannot be mended in this way, so that people are told instead (``limit_range_findings``).

Source: Kubernetes "Resource Quotas" (extended resources are counted as ``requests.NAME`` only); k8s.io/kubernetes
``pkg/kubeapiserver/options/plugins.go`` (LimitRanger, then mutating webhooks, ResourceQuota last) and
``plugin/pkg/admission/limitranger`` (defaults are filled in again after webhooks; a maximum has to be named by each).
"""

from collections.abc import Iterator
from typing import Final

from bastide.errors import MalformedError
from bastide.pods.edit import Change, Editor
from bastide.pods.findings import Finding, Severity, refuse_malformed, warn
from bastide.pods.resources import DIALECTS, EPC, dialect_of, epc_of
from bastide.pods.tree import Path, at, mapping, sequence
from bastide.units import Bytes, format_quantity

HARD: Final = ("spec", "hard")
"""Where a ResourceQuota says how much."""

COUNTED: Final = f"requests.{EPC}"
"""The entry that Kubernetes compares with what Bastide's pods ask."""

OLD_ENTRIES: Final = tuple(
    f"requests.{one.resource}" for one in DIALECTS if one.counts_epc and one.canonical != one.resource
)
"""Entries that nothing is counted by, once pods are rewritten."""

LARGEST_QUOTA: Final = 1 << 46
"""Bytes (64 TiB). A MiB or page count that comes to as much was written in bytes; the canonical name has no bound."""

_PREFIX: Final = "requests."
_LIMITS: Final = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def keep_in_step(quota: dict[str, object], before: dict[str, object] | None = None) -> tuple[Change, ...]:
    """What has to change in a ResourceQuota so that its old entries count: at most ``requests.sgx.intel.com/epc``.

    The smallest amount that is said holds. What we wrote ourselves says nothing: where the entry was in step with the
    old names before, and nobody touched it since, it follows them up as well as down. Old entries stay as they are; a
    quota without any is not changed, and a second look changes nothing. ``quota`` is not touched.

    Args:
        quota: the object as it is to be stored.
        before: the object as it is stored; None where it is new.

    Raises:
        MalformedError: ``epc.quantity``, ``epc.unit-slip``, ``epc.too-small`` (where it says the entry); ``pod.shape``,
            ``pod.depth``.
    """
    hard = mapping(at(quota, HARD))
    said = _said(hard)
    if said is None:
        return ()
    amount, name = said
    counted = _amount(hard, COUNTED)
    if counted is not None and not _follows(counted, before):
        amount = min(amount, counted)
    editor = Editor(quota)
    if counted != amount:
        why = f"pods are counted by it; {name}: {hard[name]} would count nothing"
        editor.put((*HARD, COUNTED), format_quantity(amount), why)
    return editor.changes


def quota_findings(quota: object) -> Iterator[Finding]:
    """What ``bastide cluster lint`` says of a ResourceQuota; paths are from its root.

    Codes: ``quota.dialect`` (remark: admission adds the canonical entry), ``quota.not-counted`` (an entry that
    Kubernetes compares with nothing: warning), and those of ``epc_of`` (refusals).
    """
    hard = mapping(at(quota, HARD))
    for entry in hard:
        path: Path = (*HARD, entry)
        bare = entry.removeprefix("limits.")
        if dialect_of(bare) is not None:
            message = f"{entry} counts nothing: Kubernetes counts extended resources as requests.NAME only"
            yield warn("quota.not-counted", path, message, f"write {_PREFIX}{bare}")
        elif entry in OLD_ENTRIES:
            yield _told(hard, entry, path)


def limit_range_findings(limit_range: object) -> Iterator[Finding]:
    """What ``bastide cluster lint`` says of a LimitRange that names SGX: ``limitrange.sgx``, a warning each.

    Defaults are filled in before admission and once more after it, and every container has to keep to a maximum,
    those that never asked for SGX too: no rewriting makes that right.
    """
    for index, limit in enumerate(sequence(at(limit_range, ("spec", "limits")))):
        for kind in _LIMITS:
            for name in mapping(at(limit, (kind,))):
                if dialect_of(name) is not None:
                    yield warn(
                        "limitrange.sgx",
                        ("spec", "limits", index, kind, name),
                        f"a LimitRange with {name} holds for every container of the namespace: those without SGX are"
                        " given it or refused, and the name is not rewritten with those of pods",
                        f"bound EPC with a ResourceQuota ({COUNTED}) instead",
                    )


def _said(hard: dict[str, object]) -> tuple[Bytes, str] | None:
    """The smallest amount that old entries say, and which of them says it."""
    amounts = [(amount, entry) for entry in OLD_ENTRIES if (amount := _amount(hard, entry)) is not None]
    return min(amounts, default=None)


def _amount(hard: dict[str, object], entry: str) -> Bytes | None:
    if (quantity := hard.get(entry)) is None:
        return None
    try:
        return epc_of(entry.removeprefix(_PREFIX), quantity, most=LARGEST_QUOTA).bytes
    except MalformedError as error:
        raise MalformedError(error.code, error.message, hint=error.hint, where=f"spec.hard[{entry}]") from None


def _follows(counted: Bytes, before: dict[str, object] | None) -> bool:
    """Whether ``counted`` is what stood there before, and stood there because of the old names."""
    hard = mapping(at(before, HARD))
    try:
        said = _said(hard)
        return said is not None and said[0] == _amount(hard, COUNTED) == counted
    except MalformedError:
        return False


def _told(hard: dict[str, object], entry: str, path: Path) -> Finding:
    try:
        amount = _amount(hard, entry)
    except MalformedError as error:
        return refuse_malformed(path, error)
    size = "" if amount is None else f": {format_quantity(amount)}"
    return Finding(
        code="quota.dialect",
        severity=Severity.INFO,
        path=path,
        message=f"{entry} counts nothing by itself, as pods are rewritten; admission adds {COUNTED}{size}",
        hint=f"write {COUNTED}{size}",
    )
