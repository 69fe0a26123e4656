"""Label selectors."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.metrics.selector import Selector
from bastide.errors import MalformedError


@pytest.mark.parametrize(
    ("written", "labels", "selected"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web"}, True),
        ("app = web", {"app": "api"}, False),
        ("app!=web", {}, True),
        ("app!=web", {"app": "web"}, False),
        ("app=", {"app": ""}, True),
        ("app", {"app": "x"}, True),
        ("!app", {"app": "x"}, False),
        ("! app", {}, True),
        ("app in (web, api),tier notin (back)", {"app": "api"}, True),
        ("app in (web,api),tier notin (back)", {"app": "api", "tier": "back"}, False),
        ("generation>1", {"generation": "2"}, True),
        ("generation<1", {"generation": "2"}, False),
        ("generation > 1", {}, False),
        ("example.com/app=web", {"example.com/app": "web"}, True),
    ],
)
def test_a_selector_selects_as_the_api_server_does(written, labels, selected):
    assert Selector.parse(written).matches(labels) is selected


@pytest.mark.parametrize(
    "written",
    ["a=b c", "a in b", "a in (b", "-a=b", "a=b,,c", ",", "a=!", "a>x", "a>", "=b", "a" * 64, "a=" + "b" * 64, "é=1"],
)
def test_what_is_no_selector_is_refused(written):
    with pytest.raises(MalformedError) as caught:
        Selector.parse(written)
    assert caught.value.code == "cluster.metrics.selector"


@pytest.mark.parametrize("written", ["a=b," * 2000, ",".join(f"a{n}" for n in range(65))])
def test_a_selector_is_bounded(written):
    with pytest.raises(MalformedError):
        Selector.parse(written)


@settings(max_examples=100)
@given(st.text(alphabet="ab=!<>(), innot/.-", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_selector_or_malformed(written):
    try:
        Selector.parse(written).matches({"a": "b"})
    except MalformedError:
        return


@pytest.mark.parametrize("written", ["," * 4096, "a in (" + "," * 4000, "(" * 4096, "a" * 4096, "a " * 2048])
def test_what_is_no_selector_is_told_in_linear_time(written):
    """Whoever reaches the port of KEDA's scaler may ask: the square of 4096 is a tenth of a second each."""
    began = time.process_time()
    for _ in range(20):
        with pytest.raises(MalformedError):
            Selector.parse(written)
    assert time.process_time() - began < 0.5
