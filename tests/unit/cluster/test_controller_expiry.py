"""Facts about images do not pile up, whatever a tenant pushes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bastide.cluster.controller.expiry import Expiry, ExpirySettings
from bastide.cluster.gate.report import object_name
from bastide.cluster.kept import ReportsKept
from bastide.errors import ConfigError
from bastide.kube.client import ApiClient
from support.api_server import api_server
from support.bounded import run_bounded
from support.gate import enclave, report
from support.kube_objects import KubeObjects
from support.pods import container, pod

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
IMAGES = "/apis/bastide.dev/v1alpha1/enclaveimages"


def digest(number):
    return f"sha256:{number:064x}"


def swept(ages, *, pods=(), may_act=lambda: True, refuse=None, **settings):
    """Numbers of the reports that are left; report n was made ages[n] ago."""
    kept, images = KubeObjects(), ReportsKept()
    for number, age in enumerate(ages):
        one = replace(report(enclave()), digest=digest(number), scanned_at=NOW - age)
        kept.put(f"{IMAGES}/{object_name(one.digest)}", one.build())
        images.put(object_name(one.digest), one.build())
    for number, tree in enumerate(pods):
        kept.put(f"/api/v1/namespaces/a/pods/p{number}", tree)
    kept.refuse = refuse

    async def test():
        client = ApiClient(api.access, chance=lambda: 0.0)
        options = ExpirySettings(**settings)
        expiry = Expiry(client, images, may_act=may_act, chance=lambda: 0.0, settings=options, now=lambda: NOW)
        await expiry.sweep()

    with api_server(kept) as api:
        run_bounded(test)
    left = {path.rpartition("/")[2] for path in kept.objects if path.startswith(IMAGES)}
    return [number for number in range(len(ages)) if object_name(digest(number)) in left]


HOURS = [timedelta(hours=hours) for hours in range(10)]


def test_facts_that_no_pod_uses_go_when_they_are_old():
    assert swept([timedelta(days=8), timedelta(days=6)]) == [1]


@pytest.mark.parametrize("kind", ["containers", "initContainers", "volumes"])
def test_facts_that_a_pod_uses_stay_however_old_and_many(kind):
    name = f"reg.example/app@{digest(0)}"
    tree = pod(container())
    tree["spec"][kind] = [{"name": "v", "image": {"reference": name}}] if kind == "volumes" else [container(image=name)]
    assert swept([timedelta(days=80), timedelta(days=80)], pods=[tree], most=0) == [0]


def test_beyond_a_number_the_oldest_go_first_but_none_that_is_young():
    assert swept(HOURS, most=4) == [0, 1, 2, 3]
    assert swept(HOURS, most=0) == [0, 1]


def test_beyond_a_size_the_oldest_go_first():
    images = ReportsKept()
    images.put("x", report(enclave()).build())
    one = images.bytes + 100
    left = swept(HOURS, most_bytes=3 * one)
    assert left == list(range(len(left)))
    assert 2 <= len(left) <= 3


def test_all_pages_of_pods_are_looked_at(monkeypatch):
    monkeypatch.setattr("bastide.kube.paging.PAGE", 2)
    pods = [pod(container(image=f"reg.example/app@{digest(number)}")) for number in range(5)]
    assert swept([timedelta(days=80)] * 6, pods=pods) == [0, 1, 2, 3, 4]


def test_where_pods_cannot_be_listed_nothing_goes():
    with pytest.raises(ConfigError):
        swept([timedelta(days=80)], refuse=lambda _method, path: 403 if path == "/api/v1/pods" else None)
    deleted = []

    def refuse(method, path):
        if method == "DELETE":
            deleted.append(path)
        return 403 if path == "/api/v1/pods" else None

    with pytest.raises(ConfigError):
        swept([timedelta(days=80)], refuse=refuse)
    assert deleted == []


def test_who_does_not_lead_deletes_nothing():
    assert swept([timedelta(days=80)], may_act=lambda: False) == [0]
