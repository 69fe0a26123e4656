import asyncio
import dataclasses

import pytest

from bastide.errors import ConfigError, ConflictError, MalformedError, UnavailableError
from bastide.kube import http
from bastide.kube.access import ClusterAccess
from bastide.kube.client import ApiClient, Patch, resource_path, with_query
from support.api_server import api_server, kube_threads
from support.bounded import eventually, run_bounded


def _client(access, **kwargs):
    return ApiClient(access, chance=lambda: 0.0, **kwargs)


def _with(answerer, test, **kwargs):
    with api_server(answerer) as api:
        run_bounded(lambda: test(_client(api.access, **kwargs), api))


def test_gets_an_object():
    async def got(client, api):
        assert await client.get(resource_path("api", "v1", "nodes", "n/1")) == {"kind": "Node"}
        assert (api.asked[0].method, api.asked[0].path) == ("GET", "/api/v1/nodes/n%2F1")
        assert api.asked[0].headers["Accept"] == "application/json"

    _with(lambda _, answer: answer.reply(200, {"kind": "Node"}), got)


def test_a_prefix_and_a_query_are_part_of_what_is_asked():
    async def got(client, api):
        prefixed = _client(dataclasses.replace(api.access, prefix="/k8s/c-1"))
        await prefixed.get("/api", {"fieldSelector": "metadata.name=a&b"})
        assert api.asked[0].path == "/k8s/c-1/api?fieldSelector=metadata.name%3Da%26b"

    _with(lambda _, answer: answer.reply(200, {}), got)
    assert with_query("/api", None) == "/api"


@pytest.mark.parametrize("kind", list(Patch))
def test_patches_with_the_media_type_of_the_kind(kind):
    async def patched(client, api):
        await client.patch("/api/v1/nodes/n/status", kind, [{"op": "test", "path": "/a", "value": 1}])
        assert (api.asked[0].method, api.asked[0].headers["Content-Type"]) == ("PATCH", str(kind))
        assert api.asked[0].json == [{"op": "test", "path": "/a", "value": 1}]

    _with(lambda _, answer: answer.reply(200, {}), patched)


@pytest.mark.parametrize(
    ("status", "family", "code"),
    [
        (400, ConflictError, "kube.invalid"),
        (401, UnavailableError, "kube.unauthorized"),
        (403, ConfigError, "kube.forbidden"),
        (404, ConflictError, "kube.not-found"),
        (409, ConflictError, "kube.conflict"),
        (410, ConflictError, "kube.gone"),
        (422, ConflictError, "kube.invalid"),
        (500, UnavailableError, "kube.server"),
        (302, UnavailableError, "kube.server"),
    ],
)
def test_every_refusal_is_an_error_of_ours_with_the_servers_words(status, family, code):
    async def refused(client, _api):
        with pytest.raises(family, match="the words") as error:
            await client.get("/api/v1/nodes")
        assert (error.value.code, error.value.where) == (code, "/api/v1/nodes")

    _with(lambda _, answer: answer.reply(status, {"kind": "Status", "message": "the words"}), refused)


def test_asks_again_when_the_server_is_busy_and_not_before_it_says(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("bastide.kube.client.asyncio.sleep", sleep)

    def busy_twice(_asked, answer):
        if len(api_asked()) <= 2:
            answer.reply(429, {}, Retry_After="7")
        else:
            answer.reply(200, {})

    async def got(client, api):
        nonlocal api_asked
        api_asked = lambda: api.asked  # noqa: E731
        await client.get("/api")
        assert len(api.asked) == 3

    api_asked = list
    _with(busy_twice, got)
    assert len(slept) == 2
    assert all(each >= 7 for each in slept)


@pytest.mark.parametrize("header", ["never", "-1", "1e9", "9" * 40, "٣"])
def test_a_strange_retry_after_is_passed_over_and_a_busy_server_is_an_error_in_the_end(monkeypatch, header):
    async def sleep(seconds):
        assert 0 <= seconds <= 30

    monkeypatch.setattr("bastide.kube.client.asyncio.sleep", sleep)

    async def refused(client, api):
        with pytest.raises(UnavailableError) as error:
            await client.get("/api")
        assert error.value.code == "kube.busy"
        assert len(api.asked) == 5

    strange = header.encode().decode("latin-1")
    _with(lambda _, answer: answer.reply(503, {}, Retry_After=strange), refused)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_object_is_malformed(body):
    async def refused(client, _api):
        with pytest.raises(MalformedError) as error:
            await client.get("/api")
        assert error.value.code == "kube.answer.syntax"

    _with(lambda _, answer: answer.raw(200, body), refused)


def test_an_answer_that_is_too_long_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(http, "LARGEST_ANSWER", 1 << 20)

    async def refused(client, _api):
        with pytest.raises(MalformedError) as error:
            await client.get("/api")
        assert error.value.code == "kube.answer.size"

    _with(lambda _, answer: answer.raw(200, b" " * (2 << 20)), refused)


def test_an_event_that_is_too_long_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(http, "LARGEST_LINE", 1000)

    def long(_asked, answer):
        answer.begin_stream()
        answer.chunk(b'{"type": "ADDED"' + b" " * 2000)
        answer.stop.wait(5)

    async def refused(client, _api):
        async with client.watch("/api", {}, seconds=5) as events:
            with pytest.raises(MalformedError) as error:
                await anext(events)
        assert error.value.code == "kube.answer.size"

    _with(long, refused)


def test_an_answer_that_breaks_off_is_unavailable():
    def half(_asked, answer):
        answer.raw(200, b"{", Content_Length="100")
        answer.drop()

    async def refused(client, _api):
        with pytest.raises(UnavailableError):
            await client.get("/api")

    _with(half, refused)


def test_a_server_that_is_not_there_or_silent_is_unavailable():
    async def absent():
        with pytest.raises(UnavailableError) as error:
            await _client(ClusterAccess(host="127.0.0.1", port=1)).get("/api")
        assert error.value.code == "kube.unavailable"

    run_bounded(absent)

    async def silent(client, _api):
        with pytest.raises(UnavailableError):
            await client.get("/api")

    _with(lambda _, answer: answer.stop.wait(5), silent, seconds=0.1)


def test_the_token_is_read_anew_for_each_request(tmp_path):
    token = tmp_path / "token"

    async def asked(_client_without, api):
        client = _client(dataclasses.replace(api.access, token_file=token))
        for each in ("first", "second"):
            token.write_text(f"{each}\n")
            await client.get("/api")
        assert [one.headers["Authorization"] for one in api.asked] == ["Bearer first", "Bearer second"]

    _with(lambda _, answer: answer.reply(200, {}), asked)


@pytest.mark.parametrize("raw", [None, b"", b"\n", b"a\r\nX-Evil: b", b"\xff"])
def test_a_token_that_is_none_is_refused_and_nothing_sent(tmp_path, raw):
    token = tmp_path / "token"
    if raw is not None:
        token.write_bytes(raw)

    async def refused(_client_without, api):
        with pytest.raises(ConfigError) as error:
            await _client(dataclasses.replace(api.access, token_file=token)).get("/api")
        assert error.value.code == "kube.token"
        assert api.asked == []

    _with(lambda _, answer: answer.reply(200, {}), refused)


def test_cancelling_ends_a_request_and_its_thread_at_once():
    async def cancelled(client, api):
        task = asyncio.create_task(client.get("/api"))
        await eventually(lambda: api.asked, "asked")
        task.cancel()
        async with asyncio.timeout(1):
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: not kube_threads(), "thread ended")

    _with(lambda _, answer: answer.stop.wait(20), cancelled, seconds=15)
