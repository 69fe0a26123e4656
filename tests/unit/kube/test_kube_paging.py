"""Lists come whole, however large others make the objects in them."""

import pytest

from bastide.errors import MalformedError
from bastide.kube import http
from bastide.kube.client import ApiClient
from bastide.kube.paging import pages
from support.api_server import api_server
from support.bounded import run_bounded
from support.kube_objects import KubeObjects

PODS = "/api/v1/pods"


def listed(kept):
    names = []

    async def test():
        client = ApiClient(api.access, chance=lambda: 0.0)
        async for page in pages(client, PODS, {}):
            names.extend(item["metadata"]["name"] for item in page["items"])

    with api_server(kept) as api:
        run_bounded(test)
    return names, [asked.path.partition("limit=")[2] for asked in api.asked]


def _pods(count, size):
    kept = KubeObjects()
    for number in range(count):
        kept.put(f"/api/v1/namespaces/a/pods/p{number:03}", {"metadata": {"annotations": {"x": "y" * size}}})
    return kept


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(monkeypatch):
    """Else a tenant with a few dozen objects of a megabyte each would blind everybody who lists them."""
    monkeypatch.setattr(http, "LARGEST_ANSWER", 100_000)
    names, limits = listed(_pods(60, 5_000))
    assert names == [f"p{number:03}" for number in range(60)]
    assert limits[:3] == ["500", "62", "7"]
    assert {limit.partition("&")[0] for limit in limits[3:]} == {"7"}


def test_small_objects_come_at_once():
    names, limits = listed(_pods(60, 10))
    assert len(names) == 60
    assert limits == ["500"]


def test_one_object_that_is_too_large_by_itself_is_told(monkeypatch):
    monkeypatch.setattr(http, "LARGEST_ANSWER", 1000)
    with pytest.raises(MalformedError) as caught:
        listed(_pods(1, 5_000))
    assert caught.value.code == "kube.answer.size"
