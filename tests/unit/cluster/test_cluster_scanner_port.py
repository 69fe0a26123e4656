import asyncio
import ssl
from datetime import UTC, datetime

import pytest

from bastide.cluster.certificates import begin
from bastide.cluster.resolving import MOST_IMAGES, Resolved, Unresolved, resolve_within
from bastide.cluster.scanner_port import ScannerResolver
from bastide.errors import ConfigError, UnavailableError
from bastide.pods.images import ImageReference
from support.api_server import api_server
from support.bounded import run_bounded

DIGEST = "sha256:" + "ab" * 32
A, B, C = (ImageReference.parse(f"registry.example/{name}:1") for name in "abc")


def _asked(tmp_path, answerer, test, *, trusted=True):
    """``test(resolver, api)`` against a scanner that answers by ``answerer``, over TLS."""
    held = begin(("localhost",), datetime.now(UTC))
    (tmp_path / "cert").write_bytes(held.leaf_pem)
    (tmp_path / "key").write_bytes(held.leaf_key_pem)
    other = begin(("localhost",), datetime.now(UTC))
    (tmp_path / "ca").write_bytes((held if trusted else other).bundle_pem)
    (tmp_path / "token").write_text("the-token")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with api_server(answerer, tls=tls) as api:
        url = f"https://localhost:{api.access.port}"
        resolver = ScannerResolver(url, ca_file=tmp_path / "ca", token_file=tmp_path / "token")
        run_bounded(lambda: test(resolver, api))


def _resolve(resolver, *images, dry_run=False):
    return resolver.resolve("shop", ["pull"], "runner", images or (A,), dry_run=dry_run)


def test_it_asks_with_its_token_and_reads_digests_and_errors(tmp_path):
    answer = {
        "images": {
            A.build(): {"digest": DIGEST, "scan": "done"},
            B.build(): {"error": {"code": "registry.denied", "message": "m", "permanent": True}},
            C.build(): {"digest": "sha256:zz"},
        }
    }

    async def test(resolver, api):
        found = await _resolve(resolver, A, B, C, dry_run=True)
        assert found[A] == Resolved(digest=DIGEST)
        assert found[B] == Unresolved(code="registry.denied", message="m", permanent=True)
        assert found[C].code == "admission.scanner.answer"
        (asked,) = api.asked
        assert (asked.method, asked.path) == ("POST", "/v1/resolve")
        assert asked.headers["Authorization"] == "Bearer the-token"
        assert asked.json == {
            "namespace": "shop",
            "serviceAccount": "runner",
            "pullSecrets": ["pull"],
            "images": [A.build(), B.build(), C.build()],
            "dryRun": True,
        }

    _asked(tmp_path, lambda _, exchange: exchange.reply(200, answer), test)


def test_what_it_asks_is_what_the_scanner_reads(tmp_path):
    from bastide.cluster.scanner.resolve import Question

    async def test(resolver, api):
        await _resolve(resolver)
        question = Question.parse(api.asked[0].body)
        assert (question.namespace, question.images, question.dry_run) == ("shop", (A.build(),), False)

    _asked(tmp_path, lambda _, exchange: exchange.reply(200, {"images": {}}), test)


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_another_status_is_unavailable_and_says_what_the_scanner_said(tmp_path, status):
    async def test(resolver, _api):
        with pytest.raises(UnavailableError, match="no such thing") as caught:
            await _resolve(resolver)
        assert caught.value.code == "admission.scanner.status"

    _asked(tmp_path, lambda _, exchange: exchange.reply(status, {"error": {"message": "no such thing"}}), test)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"images": []}', b'{"images": {"x": 7}}'])
def test_a_hostile_answer_is_no_answer(tmp_path, body):
    async def test(resolver, _api):
        found = await resolve_within(resolver, [A], namespace="n", pull_secrets=(), service_account="d", dry_run=False)
        assert found[A].code in ("kube.answer.syntax", "admission.resolve.missing")

    _asked(tmp_path, lambda _, exchange: exchange.raw(200, body), test)


def test_a_scanner_under_another_authority_is_not_believed(tmp_path):
    async def test(resolver, _api):
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await _resolve(resolver)

    _asked(tmp_path, lambda _, exchange: exchange.reply(200, {}), test, trusted=False)


def test_a_new_authority_file_is_read(tmp_path):
    async def test(resolver, _api):
        good = (tmp_path / "ca").read_bytes()
        (tmp_path / "ca").unlink()
        with pytest.raises(ConfigError):
            await _resolve(resolver)
        (tmp_path / "ca").write_bytes(good)
        assert await _resolve(resolver) == {}

    _asked(tmp_path, lambda _, exchange: exchange.reply(200, {"images": {}}), test)


@pytest.mark.parametrize("url", ["http://s", "https://", "https://h/path", "https://h?x", "s:443"])
def test_other_urls_are_refused(tmp_path, url):
    with pytest.raises(ConfigError):
        ScannerResolver(url, ca_file=tmp_path, token_file=tmp_path)


def test_more_images_than_a_scanner_takes_are_not_asked_for():
    class Never:
        async def resolve(self, *_args, **_named):
            raise AssertionError

    images = [ImageReference.parse(f"i:{number}") for number in range(MOST_IMAGES + 1)]
    asked = {"namespace": "n", "pull_secrets": (), "service_account": "d", "dry_run": False}
    found = asyncio.run(resolve_within(Never(), images, **asked))
    assert {one.code for one in found.values()} == {"admission.resolve.many"}
