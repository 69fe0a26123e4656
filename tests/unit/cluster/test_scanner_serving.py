"""The scanner as its neighbours see it: questions over HTTPS, reports in the API server."""

import asyncio
import json
import ssl
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from bastide.cluster.gate.report import ImageReport
from bastide.cluster.resolving import Resolved, Unresolved
from bastide.cluster.scanner.build import ScannerOptions, run, serve
from bastide.cluster.scanner.callers import AUDIENCE, service_account
from bastide.cluster.scanner.confine import seccomp
from bastide.cluster.scanner.confine.linux import PR_SET_DUMPABLE, prctl, syscall
from bastide.cluster.scanner.confine.lock import available
from bastide.cluster.scanner.job import RegistryOptions
from bastide.cluster.scanner.metrics import Metrics
from bastide.cluster.scanner.resolve import LARGEST_QUESTION, MOST_IMAGES, Question, Resolver
from bastide.cluster.scanner.scans import Standing
from bastide.cluster.scanner.secrets import PodSecrets
from bastide.cluster.scanner_port import ScannerResolver
from bastide.errors import MalformedError, UnavailableError
from bastide.web.tls import self_made
from support.api_server import api_server
from support.bounded import eventually, run_bounded
from support.enclave_files import signed_intel_enclave
from support.escapes import PR_GET_DUMPABLE, PRCTL
from support.images import Member, layout, tar
from support.registry import fake_registry

IMAGE = layout([tar(Member("app/e.signed.so", signed_intel_enclave()))])
CALLER = service_account("bastide-system/bastide-admission")


@pytest.fixture
def registry():
    with fake_registry() as served:
        served.put(IMAGE)
        yield served


class _Asker:
    def __init__(self, standing=Standing.QUEUED):
        self.sources = []
        self.standing = standing

    def ask(self, source):
        self.sources.append(source)
        return self.standing


def _with_resolver(registry, test, images, *, notes=(), budget=20.0, asker=None, **fields):
    async def secrets(namespace, account, names):
        return PodSecrets(notes=notes)

    async def ask():
        options = RegistryOptions(private=(f"http://{registry.host}",))
        resolver = Resolver(options, secrets, asker or _Asker(), Metrics(), budget=budget)
        question = Question(
            **{"namespace": "ns", "service_account": "default", "pull_secrets": (), "images": tuple(images), **fields}
        )
        try:
            await test(resolver, question)
        finally:
            resolver.close()

    run_bounded(ask, seconds=40)


def _resolve(registry, images, *, asker=None, **options):
    """The answer to one question, and who asked for scans."""
    asker = asker or _Asker()
    answers = []

    async def ask(resolver, question):
        answers.append(await resolver.answer(question))

    _with_resolver(registry, ask, images, asker=asker, **options)
    return answers[0]["images"], asker


def test_a_tag_gets_its_digest_and_a_scan(registry):
    name = registry.image(":1").build()
    found, asker = _resolve(registry, [name, name])
    assert found == {name: {"digest": IMAGE.manifest_digest, "scan": "queued"}}
    (source,) = asker.sources
    assert (source.image.digest, source.image.tag, source.namespace) == (IMAGE.manifest_digest, None, "ns")


def test_an_image_that_is_pinned_needs_no_registry(registry):
    name = registry.image(f":1@{IMAGE.manifest_digest}").build()
    found, asker = _resolve(registry, [name], asker=_Asker(Standing.FULL))
    assert found[name] == {"digest": IMAGE.manifest_digest, "scan": "full"}
    assert not registry.asked
    assert len(asker.sources) == 1


def test_a_dry_run_begins_no_scan(registry):
    name = registry.image(":1").build()
    found, asker = _resolve(registry, [name], dry_run=True)
    assert found[name] == {"digest": IMAGE.manifest_digest}
    assert not asker.sources


def test_each_image_has_its_own_refusal(registry):
    names = [
        "no image",
        "evil.example/app:1",
        registry.image(":absent").build(),
        registry.image(f"@sha512:{'a' * 128}").build(),
        registry.image(":1").build(),
    ]
    found, asker = _resolve(registry, names)
    codes = [found[name].get("error", {}).get("code") for name in names]
    assert codes == [
        "image.space",
        "scanner.registry.unlisted",
        "scanner.registry.missing",
        "scanner.image.digest",
        None,
    ]
    assert all(found[name]["error"]["permanent"] for name in names[:4])
    assert len(asker.sources) == 1


def test_a_pinned_image_of_a_registry_that_is_not_listed_is_refused_too(registry):
    name = f"evil.example/app@{IMAGE.manifest_digest}"
    found, asker = _resolve(registry, [name])
    assert found[name]["error"]["code"] == "scanner.registry.unlisted"
    assert not asker.sources


def test_a_slow_registry_is_told_within_the_budget_and_found_when_asked_again(registry):
    released = threading.Event()
    registry.answerer = lambda asked, exchange: not released.wait(15)
    name = registry.image(":1").build()

    async def ask(resolver, question):
        error = (await resolver.answer(question))["images"][name]["error"]
        assert (error["code"], error["permanent"]) == ("scanner.resolve.slow", False)
        released.set()
        found = {}
        while "digest" not in found:
            found = (await resolver.answer(question))["images"][name]
        assert found["digest"] == IMAGE.manifest_digest
        assert len(registry.asked) == 1  # the first question's own, which went on

    _with_resolver(registry, ask, [name], budget=0.1)


def test_tags_that_are_asked_for_at_once_are_bounded(registry, monkeypatch):
    monkeypatch.setattr("bastide.cluster.scanner.resolve._MOST_UNDER_WAY", 2)
    names = [registry.image(f":tag{number}").build() for number in range(4)]

    async def ask(resolver, question):
        found = (await resolver.answer(question))["images"]
        assert [found[name]["error"]["code"] for name in names].count("scanner.resolve.busy") == 2

    _with_resolver(registry, ask, names)


def test_a_refusal_of_the_registry_comes_with_what_could_not_be_read(registry):
    registry.answerer = lambda asked, exchange: exchange.reply(401, b"", WWW_Authenticate='Basic realm="r"') or True
    name = registry.image(":1").build()
    found, _ = _resolve(registry, [name], notes=("grant: a RoleBinding",))
    assert found[name]["error"]["code"] == "scanner.registry.unauthorised"
    assert "grant: a RoleBinding" in found[name]["error"]["message"]


# Questions


def _question(**changes):
    tree = {"namespace": "ns", "serviceAccount": "", "pullSecrets": [], "images": ["a"], **changes}
    return json.dumps({key: value for key, value in tree.items() if value is not ...}).encode()


def test_a_question_is_read():
    question = Question.parse(_question(pullSecrets=["s"], dryRun=True))
    assert (question.service_account, question.pull_secrets, question.dry_run) == ("default", ("s",), True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"namespace":"a","namespace":"b"}',
        b" " * (LARGEST_QUESTION + 1),
        _question(namespace=...),
        _question(namespace=""),
        _question(namespace=".."),
        _question(namespace="../kube-system"),
        _question(namespace="A"),
        _question(namespace=["ns"]),
        _question(serviceAccount="a/b"),
        _question(pullSecrets=["../x"]),
        _question(pullSecrets="x"),
        _question(images=...),
        _question(images=[1]),
        _question(images=["a"] * (MOST_IMAGES + 1)),
        _question(dryRun="yes"),
        _question(more=1),
    ],
)
def test_hostile_questions_are_refused(raw):
    with pytest.raises(MalformedError) as caught:
        Question.parse(raw)
    assert caught.value.code == "scanner.question"


# The whole process


class _Cluster:
    """TokenReviews, service accounts and EnclaveImages."""

    def __init__(self):
        self.objects = {}
        self.user = CALLER

    def __call__(self, asked, exchange):
        if asked.path.endswith("/tokenreviews"):
            good = asked.json["spec"]["token"] == "good"
            status = {"authenticated": good, "user": {"username": self.user}, "audiences": [AUDIENCE]}
            exchange.reply(201, {"status": status})
        elif "/enclaveimages" in asked.path and asked.method == "GET":
            name = asked.path.rpartition("/")[2]
            exchange.reply(200 if name in self.objects else 404, self.objects.get(name, {}))
        elif "/enclaveimages" in asked.path:
            self.objects[asked.json["metadata"]["name"]] = asked.json
            exchange.reply(201, asked.json)
        else:
            exchange.reply(403, {})


@contextmanager
def _running(tmp_path, registry):
    """A scanner in a thread; gives its URL, its certificate and its cluster."""
    cluster = _Cluster()
    tls = self_made(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    (work := tmp_path / "work").mkdir()
    ports: list[int] = []
    begun, loops = threading.Event(), []

    def started(port):
        ports.append(port)
        begun.set()

    with api_server(cluster) as api:
        options = ScannerOptions(
            registries=RegistryOptions(private=(f"http://{registry.host}",)),
            callers=(CALLER,),
            host="127.0.0.1",
            port=0,
            tls=tls,
            work=work,
        )

        async def main():
            stop = asyncio.Event()
            loops.append((asyncio.get_running_loop(), stop))
            await serve(api.access, options, chance=lambda: 0.0, started=started, stop=stop)

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        try:
            assert begun.wait(10)
            yield f"https://127.0.0.1:{ports[0]}", tls[0], cluster
        finally:
            loop, stop = loops[0]
            loop.call_soon_threadsafe(stop.set)
            thread.join(15)
            assert not thread.is_alive()
            assert not list(work.iterdir())


def _http(url, trust, *, body=None, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    context = ssl.create_default_context(cafile=trust)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_admissions_own_client_gets_digests_and_a_report_appears(registry, tmp_path):
    with _running(tmp_path, registry) as (url, certificate, cluster):
        (tmp_path / "token").write_text("good")

        async def ask():
            resolver = ScannerResolver(url, ca_file=certificate, token_file=tmp_path / "token")
            images = [registry.image(":1"), registry.image(":absent")]
            found = await resolver.resolve("ns", ["secret"], "app", images, dry_run=False)
            assert found[images[0]] == Resolved(digest=IMAGE.manifest_digest)
            missing = found[images[1]]
            assert isinstance(missing, Unresolved)
            assert (missing.code, missing.permanent) == ("scanner.registry.missing", True)
            await eventually(lambda: bool(cluster.objects), "the report is there", seconds=60)

        run_bounded(ask, seconds=90)
        (tree,) = cluster.objects.values()
        report = ImageReport.parse(tree)
        assert [enclave.path for enclave in report.enclaves] == ["/app/e.signed.so"]
        status, text = _http(f"{url}/metrics", certificate)
        assert status == 200
        assert b'bastide_scanner_scans_total{result="report"} 1.0' in text
        protections = available()
        assert f'bastide_scanner_confinement{{by="calls"}} {float(protections.calls)}' in text.decode()
        assert f'bastide_scanner_confinement{{by="landlock"}} {float(protections.landlock)}' in text.decode()


def test_the_scanner_hides_its_memory_and_asks_for_a_filter_before_anything_else(monkeypatch):
    monkeypatch.setattr(seccomp, "is_available", lambda: False)
    options = ScannerOptions(registries=RegistryOptions(public=("*",)), callers=(CALLER,), port=0)
    prctl(PR_SET_DUMPABLE, 1)
    with pytest.raises(UnavailableError) as caught:
        run(None, options, chance=lambda: 0.0)
    assert caught.value.code == "scanner.confine.calls"
    assert syscall(PRCTL, PR_GET_DUMPABLE) == 0


def test_nobody_asks_without_a_token_of_a_caller(registry, tmp_path):
    with _running(tmp_path, registry) as (url, certificate, cluster):
        body = _question(images=[registry.image(":1").build()])
        assert _http(f"{url}/v1/resolve", certificate, body=body)[0] == 401
        assert _http(f"{url}/v1/resolve", certificate, body=body, token="bad")[0] == 401
        cluster.user = service_account("evil/pod")
        assert _http(f"{url}/v1/resolve", certificate, body=body, token="good")[0] == 403
        assert not registry.asked
        cluster.user = CALLER
        assert _http(f"{url}/v1/resolve", certificate, body=b"{}", token="good")[0] == 400
        assert _http(f"{url}/v1/resolve", certificate, body=b" " * 400_000, token="good")[0] == 400
        assert _http(f"{url}/v1/resolve", certificate, token="good")[0] == 405
        for page, status in (("/healthz", 200), ("/readyz", 200), ("/other", 404)):
            assert _http(url + page, certificate)[0] == status
