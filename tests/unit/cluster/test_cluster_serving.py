"""Certificates of a process with several replicas: one makes them, all serve them."""

import asyncio
from datetime import UTC, datetime

from bastide.cluster.serving import OwnCertificates, ServiceIdentity, server_tls
from bastide.kube.client import ApiClient
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.kube_objects import KubeObjects

SECRET = "/api/v1/namespaces/bastide-system/secrets/scanner-certificate"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/bastide-system/leases/bastide-scanner"


def _replica(api, folder):
    identity = ServiceIdentity(
        namespace="bastide-system",
        service="bastide-scanner",
        secret="scanner-certificate",
        certificates=folder,
        interval=0.05,
    )
    return OwnCertificates(
        ApiClient(api.access, chance=lambda: 0.0),
        identity,
        publisher=None,
        clock=lambda: datetime.now(UTC),
        chance=lambda: 0.0,
    )


def test_the_leader_makes_the_certificate_and_both_replicas_serve_it(tmp_path):
    kept = KubeObjects()

    async def test():
        replicas = [_replica(api, tmp_path / str(number)) for number in range(2)]
        tasks = [asyncio.ensure_future(one.run()) for one in replicas]
        try:
            for one in replicas:
                async with asyncio.timeout(10):
                    assert await server_tls(one, None, None) is not None
            await asyncio.sleep(0.2)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        first, second = (one.keeper.files[0].read_bytes() for one in replicas)
        assert first == second
        makers = [asked for asked in api.asked if asked.method == "POST" and asked.path.endswith("/secrets")]
        assert len(makers) == 1
        assert LEASE in kept.objects
        assert SECRET in kept.objects

    with api_server(kept) as api:
        run_bounded(test)


def test_who_does_not_lead_makes_nothing(tmp_path):
    kept = KubeObjects()
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 3600, "renewTime": "2026-11-23T17:00:00.000000Z"}
    kept.put(LEASE, {"spec": spec})

    async def test():
        one = _replica(api, tmp_path)
        task = asyncio.ensure_future(one.run())
        try:
            await eventually(lambda: sum(asked.path == SECRET for asked in api.asked) >= 3, "it looks for the Secret")
            assert SECRET not in kept.objects
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with api_server(kept) as api:
        run_bounded(test)


def test_the_end_may_come_before_there_is_a_certificate(tmp_path):
    async def test():
        stop = asyncio.Event()
        stop.set()
        assert await server_tls(_replica(api, tmp_path), None, stop) is None

    with api_server(KubeObjects()) as api:
        run_bounded(test)
