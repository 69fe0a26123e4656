import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.pods.findings import Severity
from bastide.pods.quota import (
    COUNTED,
    HARD,
    LARGEST_QUOTA,
    OLD_ENTRIES,
    keep_in_step,
    limit_range_findings,
    quota_findings,
)
from bastide.pods.resources import EPC
from bastide.pods.tree import at
from bastide.units import parse_quantity

FAQ, AZURE, ALIBABA, PAGES = OLD_ENTRIES


def quota(**hard):
    return {"kind": "ResourceQuota", "metadata": {"name": "epc"}, "spec": {"hard": hard}}


def counted(hard, before=None):
    """What pods are compared with once the quota is kept in step; None: with nothing."""
    (*_, last) = keep_in_step(quota(**hard), before and quota(**before)) or (None,)
    return hard.get(COUNTED) if last is None else last.after


@pytest.mark.parametrize(("entry", "amount"), [(FAQ, "100Mi"), (AZURE, "100Mi"), (ALIBABA, "100Mi"), (PAGES, "400Ki")])
def test_each_old_name_is_counted_in_bytes(entry, amount):
    assert counted({entry: "100"}) == amount
    assert at(quota(**{entry: "100"}), HARD) == {entry: "100"}


@pytest.mark.parametrize(
    "hard",
    [{}, {"pods": "3"}, {COUNTED: "10Mi"}, {"requests.sgx.intel.com/enclave": "4"}, {"requests.sgx.k8s.io/sgx": 1}],
)
def test_quotas_without_old_names_of_epc_are_left_alone(hard):
    assert keep_in_step(quota(**hard)) == ()


@pytest.mark.parametrize("tree", [{}, {"spec": None}, {"spec": {"hard": None}}, {"spec": {"hard": {FAQ: None}}}])
def test_a_quota_that_says_nothing_is_left_alone(tree):
    assert keep_in_step(tree) == ()


def test_the_smallest_amount_that_is_said_holds():
    assert counted({FAQ: "100", AZURE: "50"}) == "50Mi"
    assert counted({FAQ: "100", COUNTED: "70Mi"}) == "70Mi"
    assert counted({FAQ: "100", COUNTED: "1Gi"}) == "100Mi"


def test_nothing_is_an_amount_too():
    assert counted({FAQ: "0", COUNTED: "1Gi"}) == "0"


def test_what_we_wrote_follows_the_old_name_up_and_down():
    before = {FAQ: "100", COUNTED: "100Mi"}
    assert counted({FAQ: "200", COUNTED: "100Mi"}, before) == "200Mi"
    assert counted({FAQ: "50", COUNTED: "104857600"}, before) == "50Mi"


def test_what_somebody_else_wrote_is_never_raised():
    assert counted({FAQ: "200", COUNTED: "70Mi"}, {FAQ: "100", COUNTED: "70Mi"}) == "70Mi"
    assert counted({FAQ: "200", COUNTED: "70Mi"}, {FAQ: "100", COUNTED: "100Mi"}) == "70Mi"
    assert counted({FAQ: "200", COUNTED: "70Mi"}, {COUNTED: "70Mi"}) == "70Mi"
    assert counted({FAQ: "200", COUNTED: "70Mi"}, {FAQ: "10Mi", COUNTED: "70Mi"}) == "70Mi"


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*OLD_ENTRIES, COUNTED]), st.integers(64 * 1024, 1 << 23).map(str), min_size=1),
    st.dictionaries(st.sampled_from([*OLD_ENTRIES, COUNTED]), st.integers(64 * 1024, 1 << 23).map(str)),
)
def test_a_second_look_changes_nothing(hard, before):
    once = {**hard, **({COUNTED: value} if (value := counted(hard, before)) is not None else {})}
    assert keep_in_step(quota(**once), quota(**before)) == ()
    assert keep_in_step(quota(**once)) == ()
    assert {key: once[key] for key in hard if key != COUNTED} == {key: hard[key] for key in hard if key != COUNTED}


@pytest.mark.parametrize(
    ("hard", "code"),
    [
        ({FAQ: "100Mi"}, "epc.unit-slip"),
        ({FAQ: str(LARGEST_QUOTA >> 20)}, "epc.unit-slip"),
        ({FAQ: "much"}, "epc.quantity"),
        ({FAQ: ["1"]}, "epc.quantity"),
        ({FAQ: "100", COUNTED: "100"}, "epc.unit-slip"),
    ],
)
def test_amounts_that_cannot_be_meant_are_refused_with_their_place(hard, code):
    with pytest.raises(MalformedError) as refused:
        keep_in_step(quota(**hard))
    assert refused.value.code == code
    assert refused.value.where.startswith("spec.hard[requests.")


def test_a_quota_may_be_larger_than_any_machine():
    amount = counted({FAQ: str((LARGEST_QUOTA >> 20) - 1)})
    assert parse_quantity(amount) == LARGEST_QUOTA - (1 << 20)


def test_lint_tells_of_old_names_and_of_entries_that_count_nothing():
    found = list(quota_findings(quota(**{FAQ: "100", f"limits.{EPC}": "1Mi", EPC: "1Mi", "pods": "3", COUNTED: "1Mi"})))
    told = {(one.code, one.severity, one.path[-1]) for one in found}
    assert told == {
        ("quota.dialect", Severity.INFO, FAQ),
        ("quota.not-counted", Severity.WARN, f"limits.{EPC}"),
        ("quota.not-counted", Severity.WARN, EPC),
    }
    assert "requests.sgx.intel.com/epc: 100Mi" in found[0].hint


def test_lint_refuses_what_admission_refuses():
    (found,) = quota_findings(quota(**{FAQ: "100Mi"}))
    assert (found.severity, found.code, found.path) == (Severity.REFUSE, "epc.unit-slip", (*HARD, FAQ))


def test_lint_warns_of_limit_ranges_that_name_sgx():
    tree = {"spec": {"limits": [{"type": "Container", "max": {"cpu": 1}}, {"default": {FAQ.partition(".")[2]: "10"}}]}}
    (found,) = limit_range_findings(tree)
    assert found.code == "limitrange.sgx"
    assert found.path == ("spec", "limits", 1, "default", "sgx.intel.com/sgx_epc_mem_in_MiB")
    assert list(limit_range_findings({"spec": {"limits": [None, {"max": 3}]}})) == []
