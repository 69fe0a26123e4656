import asyncio
import base64
import contextlib
import logging
from datetime import UTC, datetime, timedelta

import pytest

from bastide.cluster.certificate_keeper import CertificateKeeper, KeeperSettings, WebhookBundles
from bastide.cluster.certificates import CA_LIFE, LEAF_LIFE, Certificates
from bastide.errors import BastideError, ConflictError
from bastide.kube.client import ApiClient
from bastide.web.tls import ServerTls
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.kube_objects import KubeObjects

START = datetime(2026, 11, 23, 17, tzinfo=UTC)
SECRET = "/api/v1/namespaces/ns/secrets/certificate"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/b"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/b"
NAMES = ("svc.ns.svc",)


class World:
    """Replicas over one make-believe API server, and a clock that tests turn."""

    def __init__(self, api, objects, folder):
        self.objects = objects
        self.now = START
        self._folder = folder
        self._client = ApiClient(api.access, chance=lambda: 0.0)
        for path in (MUTATING, VALIDATING):
            objects.put(path, {"webhooks": [_webhook("ours"), _webhook("theirs", service="other")]})

    def replica(self, name, *, leads=True, skew=timedelta(0), publisher=True):
        settings = KeeperSettings(
            namespace="ns", secret="certificate", names=NAMES, folder=self._folder / name, interval=0.02
        )
        configurations = [("mutatingwebhookconfigurations", "b"), ("validatingwebhookconfigurations", "b")]
        return CertificateKeeper(
            self._client,
            settings,
            publisher=WebhookBundles(self._client, configurations, service=("ns", "svc")) if publisher else None,
            leads=(lambda: leads) if isinstance(leads, bool) else leads,
            clock=lambda: self.now + skew,
            chance=lambda: 0.0,
        )

    @property
    def held(self):
        return Certificates.parse(self.objects.objects[SECRET])

    def bundles(self):
        return [
            base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
            for path in (MUTATING, VALIDATING)
            for webhook in self.objects.objects[path]["webhooks"]
            if webhook["name"] == "ours"
        ]


def _webhook(name, service="svc"):
    return {"name": name, "clientConfig": {"service": {"namespace": "ns", "name": service}}}


def _in_world(test, tmp_path):
    objects = KubeObjects()
    with api_server(objects) as api:
        run_bounded(lambda: test(World(api, objects, tmp_path)))


def test_the_first_replica_makes_publishes_and_writes_files_that_serve(tmp_path):
    async def test(world):
        keeper = world.replica("a")
        await keeper.look()
        assert world.bundles() == [world.held.bundle_pem] * 2
        theirs = world.objects.objects[MUTATING]["webhooks"][1]["clientConfig"]
        assert "caBundle" not in theirs
        ServerTls(*keeper.files)
        assert keeper.files[1].stat().st_mode & 0o777 == 0o600
        assert keeper.expires == world.held.leaf.not_valid_after_utc

    _in_world(test, tmp_path)


def test_a_replica_that_does_not_lead_waits_and_then_serves_the_same(tmp_path):
    async def test(world):
        first, second = world.replica("a"), world.replica("b", leads=False)
        await second.look()
        assert SECRET not in world.objects.objects
        assert not second.files[0].exists()
        await first.look()
        await second.look()
        assert second.files[0].read_bytes() == first.files[0].read_bytes()

    _in_world(test, tmp_path)


def test_two_that_begin_at_once_end_with_one_certificate(tmp_path):
    async def test(world):
        replicas = [world.replica(name) for name in "abcd"]
        await asyncio.gather(*(one.look() for one in replicas), return_exceptions=True)
        for one in replicas:
            await one.look()
        assert len({one.files[0].read_bytes() for one in replicas}) == 1
        assert replicas[0].files[0].read_bytes() == world.held.leaf_pem
        assert set(world.bundles()) == {world.held.bundle_pem}

    _in_world(test, tmp_path)


def test_the_empty_secret_of_a_chart_is_filled_and_nobody_is_alarmed(tmp_path, caplog):
    async def test(world):
        world.objects.put(SECRET, {"type": "Opaque"})
        await world.replica("waits", leads=False).look()
        await world.replica("a").look()
        ServerTls(*world.replica("a").files)
        assert world.held.leaf

    _in_world(test, tmp_path)
    assert not caplog.records


def test_a_restart_finds_what_was_there(tmp_path):
    async def test(world):
        await world.replica("a").look()
        before = world.held
        await world.replica("again").look()
        assert world.held.leaf == before.leaf

    _in_world(test, tmp_path)


def test_the_authority_changes_without_a_moment_in_which_the_shown_certificate_is_not_trusted(tmp_path):
    async def test(world):
        keeper = world.replica("a")
        await keeper.look()
        seen = set()
        for _ in range(90):
            world.now += CA_LIFE / 36
            for _ in range(3):
                await keeper.look()
                world.now += timedelta(minutes=3)
                shown = keeper.files[0].read_bytes()
                held = world.held
                assert shown == held.leaf_pem
                assert world.now < held.leaf.not_valid_after_utc
                for bundle in world.bundles():
                    assert bundle == held.bundle_pem
                    _must_be_signed(shown, bundle)
                seen.add(held.bundle[0])
        assert len(seen) >= 3

    _in_world(test, tmp_path)


def _must_be_signed(leaf, bundle):
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(leaf)
    for authority in x509.load_pem_x509_certificates(bundle):
        with contextlib.suppress(Exception):
            certificate.verify_directly_issued_by(authority)
            return
    raise AssertionError("the shown certificate is signed by nobody in the bundle")


def test_no_certificate_of_a_new_authority_is_shown_before_its_bundle_is_out(tmp_path):
    async def test(world):
        keeper = world.replica("a")
        await keeper.look()
        first = world.held
        world.now += CA_LIFE * 2 / 3 + timedelta(hours=3) - LEAF_LIFE / 3
        await keeper.look()  # a fresh leaf of the old authority
        world.now += LEAF_LIFE / 3
        refused = {"PATCH"}
        world.objects.refuse = lambda method, _path: 403 if method in refused else None
        with contextlib.suppress(BastideError):
            await keeper.look()
        assert world.held.bundle[1] == first.bundle[0]
        world.now += timedelta(hours=1)
        await keeper.look()
        leaf = world.held.leaf
        leaf.verify_directly_issued_by(first.bundle[0])
        refused.clear()
        await keeper.look()
        world.held.leaf.verify_directly_issued_by(world.held.bundle[0])

    _in_world(test, tmp_path)


def test_a_new_authority_settles_before_it_signs(tmp_path):
    async def test(world):
        keeper = world.replica("a", publisher=False)
        await keeper.look()
        old = world.held.bundle[0]
        world.now += CA_LIFE * 2 / 3 + timedelta(hours=3) - LEAF_LIFE / 3
        await keeper.look()
        world.now += LEAF_LIFE / 3
        await keeper.look()
        assert world.held.bundle[1] == old
        await keeper.look()
        world.held.leaf.verify_directly_issued_by(old)
        world.now += timedelta(minutes=3)
        await keeper.look()
        world.held.leaf.verify_directly_issued_by(world.held.bundle[0])

    _in_world(test, tmp_path)


def test_a_secret_that_is_deleted_or_broken_comes_back_as_it_was(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)

    async def test(world):
        keeper = world.replica("a")
        await keeper.look()
        before = world.held
        world.objects.delete(SECRET)
        await keeper.look()
        assert world.held.leaf == before.leaf
        world.objects.put(SECRET, {"data": {"tls.crt": "AAAA"}})
        await keeper.look()
        assert (world.held.leaf, world.held.bundle) == (before.leaf, before.bundle)

    _in_world(test, tmp_path)


def test_a_bundle_that_somebody_emptied_is_written_again(tmp_path):
    async def test(world):
        keeper = world.replica("a")
        await keeper.look()
        world.objects.put(MUTATING, {"webhooks": [_webhook("ours")]})
        await keeper.look()
        assert world.bundles() == [world.held.bundle_pem] * 2

    _in_world(test, tmp_path)


def test_a_write_in_between_is_noticed_and_not_undone(tmp_path):
    async def test(world):
        late = world.replica("late")
        await late.look()
        world.now += LEAF_LIFE * 2 / 3 + timedelta(hours=3)
        raced = []

        def race(method, path):
            if method == "PUT" and not raced:
                raced.append(path)
                world.objects.put(SECRET, world.objects.objects[SECRET])

        world.objects.refuse = race
        with pytest.raises(ConflictError) as caught:
            await late.look()
        assert caught.value.code == "kube.conflict"
        before = late.files[0].read_bytes()
        assert before == world.held.leaf_pem
        await late.look()
        assert late.files[0].read_bytes() != before

    _in_world(test, tmp_path)


def test_a_replica_whose_clock_is_behind_or_ahead_by_half_an_hour_does_no_harm(tmp_path):
    async def test(world):
        for name, skew in (("behind", -timedelta(minutes=30)), ("ahead", timedelta(minutes=30))):
            await world.replica(name, skew=skew).look()
            held = world.held
            assert held.leaf.not_valid_before_utc < world.now < held.leaf.not_valid_after_utc
        assert len({world.replica(name).files[0].read_bytes() for name in ("behind", "ahead")}) == 1

    _in_world(test, tmp_path)


def test_the_loop_goes_on_after_faults_and_reloads_under_a_running_context(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)

    async def test(world):
        down = [True]
        world.objects.refuse = lambda _method, _path: 500 if down[0] else None
        keeper = world.replica("a")
        task = asyncio.ensure_future(keeper.run())
        try:
            await eventually(lambda: bool(keeper.fault), "a fault is told")
            down[0] = False
            await keeper.loaded()
            tls = ServerTls(*keeper.files)
            world.now += LEAF_LIFE * 2 / 3 + timedelta(hours=3)
            await eventually(tls.refresh, "the new certificate is loaded")
            await eventually(lambda: keeper.fault == "", "no fault is left")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    _in_world(test, tmp_path)


def test_a_configuration_that_is_not_there_is_told_and_the_others_are_written(tmp_path):
    async def test(world):
        world.objects.delete(MUTATING)
        bundles = WebhookBundles(
            world._client,
            [("mutatingwebhookconfigurations", "b"), ("validatingwebhookconfigurations", "b")],
            service=("ns", "svc"),
        )
        with pytest.raises(ConflictError):
            await bundles.publish(b"PEM")
        ours = world.objects.objects[VALIDATING]["webhooks"][0]
        assert base64.b64decode(ours["clientConfig"]["caBundle"]) == b"PEM"

    _in_world(test, tmp_path)


@pytest.mark.parametrize("changed", ["name", "bundle"])
def test_a_configuration_that_changes_under_the_pen_is_left_for_the_next_look(tmp_path, changed):
    async def test(world):
        keeper = world.replica("a")
        await keeper.look()
        stale = {"webhooks": [_webhook("ours")]}
        stale["webhooks"][0]["clientConfig"]["caBundle"] = "b2xk"
        world.objects.put(MUTATING, stale)

        def race(method, path):
            if method == "PATCH" and path == MUTATING:
                world.objects.refuse = None
                other = _webhook("other" if changed == "name" else "ours")
                other["clientConfig"]["caBundle"] = "b2xk" if changed == "name" else "bmV3"
                world.objects.put(MUTATING, {"webhooks": [other, _webhook("ours")]})

        world.objects.refuse = race
        await keeper.look()
        written = world.objects.objects[MUTATING]["webhooks"][0]["clientConfig"]["caBundle"]
        assert written == ("b2xk" if changed == "name" else "bmV3")

    _in_world(test, tmp_path)
