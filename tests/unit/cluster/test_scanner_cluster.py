"""Secrets, callers and reports: the scanner's three dealings with the API server."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bastide.cluster.gate.report import Failure, ImageReport, ManifestReport
from bastide.cluster.scanner.board import Board
from bastide.cluster.scanner.callers import AUDIENCE, Callers, service_account
from bastide.cluster.scanner.secrets import MOST_SECRETS, read_secrets
from bastide.errors import ConflictError, PolicyError, UnavailableError
from bastide.kube.client import ApiClient
from bastide.pods.images import ImageReference
from support.api_server import api_server
from support.bounded import run_bounded

DIGEST = f"sha256:{'a' * 64}"
NOW = datetime(2026, 11, 23, 17, tzinfo=UTC)
GOOD = ImageReport(digest=DIGEST, manifests=(ManifestReport(digest=DIGEST),), scanned_at=NOW)
FAILED = ImageReport(digest=DIGEST, failure=Failure(code="scanner.x", message="no"), scanned_at=NOW)
CONFIG = {"auths": {"reg.example": {"username": "alice", "password": "secret-a"}}}
IMAGE = ImageReference.parse("reg.example/app")


def _secret(tree=CONFIG, kind="kubernetes.io/dockerconfigjson", key=".dockerconfigjson"):
    return {"type": kind, "data": {key: base64.b64encode(json.dumps(tree).encode()).decode()}}


def _with(answerer, test):
    with api_server(answerer) as api:
        client = ApiClient(api.access, chance=lambda: 0.0)
        run_bounded(lambda: test(client, api))


def _objects(objects, *, status=404):
    """Answers GETs from a mapping of paths; what is absent has ``status``."""

    def answer(asked, exchange):
        if asked.path in objects:
            exchange.reply(200, objects[asked.path])
        else:
            exchange.reply(status, {"message": "no"})

    return answer


ACCOUNT = "/api/v1/namespaces/ns/serviceaccounts/default"
SECRETS = "/api/v1/namespaces/ns/secrets/"


def test_pull_secrets_of_the_pod_and_of_its_account_are_read():
    bob = {"auths": {"reg.example": {"username": "bob", "password": "b"}}}
    objects = {
        ACCOUNT: {"imagePullSecrets": [{"name": "of-account"}]},
        f"{SECRETS}of-pod": _secret(),
        f"{SECRETS}of-account": _secret(bob["auths"], "kubernetes.io/dockercfg", ".dockercfg"),
    }

    async def read(client, api):
        held = await read_secrets(client, "ns", "", ["of-pod"])
        assert [one.username for one in held.for_image(IMAGE)] == ["alice", "bob"]
        assert held.for_image(ImageReference.parse("other.example/app")) == ()
        assert held.notes == ()
        assert "secret-a" not in repr(held)

    _with(_objects(objects), read)


def test_a_namespace_that_grants_nothing_is_told_how_to():
    async def read(client, api):
        held = await read_secrets(client, "ns", "app", ["of-pod"])
        assert held.secrets == ()
        assert all("grant: a RoleBinding in namespace ns" in note for note in held.notes)
        assert len(held.notes) == 2

    _with(_objects({}, status=403), read)


def test_what_is_absent_or_no_pull_secret_is_noted():
    objects = {
        ACCOUNT: {},
        f"{SECRETS}opaque": _secret(kind="Opaque"),
        f"{SECRETS}broken": {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "%"}},
        f"{SECRETS}helper": _secret({"auths": {}, "credHelpers": {"a": "b"}}),
    }

    async def read(client, api):
        held = await read_secrets(client, "ns", "default", ["opaque", "broken", "helper", "absent"])
        told = " | ".join(held.notes)
        for words in ("Opaque", "base64", "helpers are not supported", "there is no secret absent"):
            assert words in told

    _with(_objects(objects), read)


def test_a_bounded_number_of_secrets_is_read():
    async def read(client, api):
        await read_secrets(client, "ns", "", [f"s{n}" for n in range(100)])
        assert len(api.asked) == MOST_SECRETS + 1

    _with(_objects({ACCOUNT: {}}), read)


def test_an_api_server_that_does_not_answer_is_no_lack_of_secrets():
    async def read(client, api):
        with pytest.raises(UnavailableError):
            await read_secrets(client, "ns", "", [])

    _with(_objects({}, status=500), read)


# Callers

USER = service_account("bastide-system/bastide-admission")


def _review(user=USER, *, authenticated=True, audiences=(AUDIENCE,)):
    status = {"authenticated": authenticated, "user": {"username": user}, "audiences": list(audiences)}
    return lambda asked, exchange: exchange.reply(201, {"status": status})


def _callers(client, clock=lambda: 0.0):
    return Callers(client, [USER], clock)


def test_a_token_is_judged_for_our_audience_by_the_api_server():
    async def check(client, api):
        await _callers(client).check("Bearer abc")
        assert api.asked[0].path == "/apis/authentication.k8s.io/v1/tokenreviews"
        assert api.asked[0].json["spec"] == {"token": "abc", "audiences": [AUDIENCE]}

    _with(_review(), check)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_review(authenticated=False), "scanner.caller.token"),
        (_review(audiences=()), "scanner.caller.token"),
        (_review(audiences=("https://kubernetes.default.svc",)), "scanner.caller.token"),
        (_review(user="system:serviceaccount:evil:bastide-admission"), "scanner.caller.other"),
        (_review(user=None), "scanner.caller.other"),
    ],
)
def test_tokens_of_others_and_for_others_are_refused(answer, code):
    async def check(client, api):
        callers = _callers(client)
        for _ in range(2):
            with pytest.raises(PolicyError) as caught:
                await callers.check("Bearer abc")
            assert caught.value.code == code
        assert len(api.asked) == 2  # a refusal is not kept

    _with(answer, check)


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer ", "Bearer " + "x" * 20_000])
def test_what_is_no_bearer_token_is_not_even_asked_about(header):
    async def check(client, api):
        with pytest.raises(PolicyError):
            await _callers(client).check(header)
        assert not api.asked

    _with(_review(), check)


def test_a_good_answer_is_believed_for_a_minute():
    now = [0.0]

    async def check(client, api):
        callers = _callers(client, lambda: now[0])
        for time, asked in ((0.0, 1), (59.0, 1), (61.0, 2)):
            now[0] = time
            await callers.check("Bearer abc")
            assert len(api.asked) == asked
        await callers.check("Bearer other")
        assert len(api.asked) == 3

    _with(_review(), check)


# Reports

FOLDER = "/apis/bastide.dev/v1alpha1/enclaveimages"
PATH = f"{FOLDER}/sha256-{'a' * 64}"


class _Store:
    """EnclaveImages with versions, as an API server keeps them."""

    def __init__(self, report=None):
        self.tree = None
        self.version = 0
        self.conflicts = 0
        if report is not None:
            self.write(report.build())

    def write(self, tree):
        self.version += 1
        self.tree = {**tree, "metadata": {**tree["metadata"], "resourceVersion": str(self.version)}}

    def __call__(self, asked, exchange):
        if asked.method == "GET":
            exchange.reply(200 if self.tree else 404, self.tree or {})
            return
        assert asked.path == (FOLDER if asked.method == "POST" else PATH)
        version = asked.json["metadata"].get("resourceVersion")
        if self.conflicts:
            self.conflicts -= 1
            self.write(self.tree)  # somebody else was quicker
            exchange.reply(409, {})
        elif (asked.method == "POST" and self.tree) or (asked.method == "PUT" and version != str(self.version)):
            exchange.reply(409, {})
        else:
            self.write(asked.json)
            exchange.reply(200, self.tree)

    @property
    def report(self):
        return ImageReport.parse(self.tree) if self.tree else None


@pytest.mark.parametrize("before", [None, FAILED, GOOD])
def test_a_report_is_written_whatever_was_there(before):
    store = _Store(before)
    newer = replace(GOOD, statements=(b"x",))

    async def put(client, api):
        board = Board(client)
        assert await board.get(DIGEST) == before
        await board.put(newer)
        assert store.report == newer

    _with(store, put)


def test_a_failure_never_replaces_what_was_seen():
    store = _Store(GOOD)

    async def put(client, api):
        await Board(client).put(FAILED)
        assert store.report == GOOD

    _with(store, put)


def test_a_conflict_is_tried_again_a_few_times():
    store = _Store(FAILED)
    store.conflicts = 1

    async def put(client, api):
        await Board(client).put(GOOD)
        assert store.report == GOOD
        store.conflicts = 100
        with pytest.raises(ConflictError):
            await Board(client).put(GOOD)

    _with(store, put)


def test_an_object_that_cannot_be_read_is_none_and_replaced():
    store = _Store()
    store.write({"metadata": {"name": f"sha256-{'a' * 64}"}, "report": "nonsense"})

    async def put(client, api):
        assert await Board(client).get(DIGEST) is None
        await Board(client).put(FAILED)
        assert store.report == FAILED

    _with(store, put)
