import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from bastide.errors import ConfigError
from bastide.kube import http
from bastide.kube.client import ApiClient
from bastide.kube.follow import Change, Changed, Follower, FollowSettings, Listed
from support.api_server import api_server, kube_threads
from support.bounded import eventually, run_bounded

NODE = {"metadata": {"name": "n", "resourceVersion": "5"}}


def _list(version="1", items=(NODE,)):
    return {"metadata": {"resourceVersion": version}, "items": list(items)}


def _object(version):
    return {"metadata": {"name": "n", "resourceVersion": version}}


class Script:
    """Answers lists with ``lists`` in turn, and watches with ``watches`` in turn; the last one of each stays."""

    def __init__(self, lists, watches):
        self.lists, self.watches = list(lists), list(watches)
        self.watched: list[str] = []
        self.listed = 0

    def __call__(self, asked, answer):
        query = parse_qs(urlsplit(asked.path).query)
        if "watch" not in query:
            self.listed += 1
            answer_list = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            answer_list(answer)
            return
        self.watched.append(query["resourceVersion"][0])
        assert query["allowWatchBookmarks"] == ["1"] or query["allowWatchBookmarks"] == ["true"]
        (self.watches.pop(0) if len(self.watches) > 1 else self.watches[0])(answer)


def _stream(*events, then="end"):
    def answered(answer):
        answer.begin_stream()
        for kind, tree in events:
            answer.event(kind, tree)
        if then == "end":
            answer.stop.wait(0.05)
            answer.end_stream()
        elif then == "drop":
            answer.drop()
        else:
            answer.stop.wait(20)
            answer.drop()

    return answered


def _good(version="1", items=(NODE,)):
    return lambda answer: answer.reply(200, _list(version, items))


def _follow(script, count, check=None, **settings):
    """The first ``count`` events."""
    seen = []

    async def followed():
        client = ApiClient(api.access, chance=lambda: 0.0)
        quick = FollowSettings(**{"first_delay": 0.02, "longest_delay": 0.05, **settings})
        follower = Follower(client, "/api/v1/nodes", {"fieldSelector": "x"}, chance=lambda: 0.0, settings=quick)
        events = follower.events()
        while len(seen) < count:
            seen.append(await anext(events))
        await events.aclose()
        await eventually(lambda: not kube_threads(), "thread ended", seconds=2)

    with api_server(script) as api:
        run_bounded(followed)
    return seen


def test_lists_first_and_then_tells_every_change():
    script = Script([_good()], [_stream(("MODIFIED", _object("6")), ("DELETED", _object("7")), then="wait")])
    assert _follow(script, 3) == [
        Listed(objects=(NODE,)),
        Changed(change=Change.MODIFIED, object=_object("6")),
        Changed(change=Change.DELETED, object=_object("7")),
    ]
    assert script.watched == ["1"]


def test_watches_on_from_the_last_event_when_a_watch_ends_or_is_dropped():
    script = Script(
        [_good()],
        [
            _stream(("ADDED", _object("6")), then="end"),
            _stream(("ADDED", _object("7")), then="drop"),
            _stream(("ADDED", _object("8")), then="wait"),
        ],
    )
    assert len(_follow(script, 4)) == 4
    assert script.watched == ["1", "6", "7"]
    assert script.listed == 1


def test_a_bookmark_moves_on_and_is_no_change():
    script = Script([_good()], [_stream(("BOOKMARK", _object("90"))), _stream(("ADDED", _object("91")), then="wait")])
    assert len(_follow(script, 2)) == 2
    assert script.watched == ["1", "90"]


@pytest.mark.parametrize(
    "gone", [_stream(("ERROR", {"code": 410, "message": "too old"})), lambda answer: answer.reply(410, {})]
)
def test_lists_again_when_the_server_forgot_where_we_were(gone):
    script = Script([_good("1"), _good("50", ())], [gone, _stream(("ADDED", _object("51")), then="wait")])
    assert _follow(script, 3)[1] == Listed(objects=())
    assert script.watched == ["1", "50"]


@pytest.mark.parametrize(
    "bad",
    [
        lambda answer: (answer.begin_stream(), answer.chunk(b"not json\n"), answer.end_stream()),
        _stream(("ADDED", {"metadata": {}})),
        _stream(("STRANGE", _object("6"))),
        _stream(("ERROR", {"code": 500, "message": "inside"})),
        lambda answer: (answer.begin_stream(), answer.chunk(b"x" * 2000), answer.end_stream()),
    ],
)
def test_lists_again_after_events_that_make_no_sense(bad, monkeypatch):
    monkeypatch.setattr(http, "LARGEST_LINE", 1000)
    script = Script([_good()], [bad, _stream(("ADDED", _object("8")), then="wait")])
    assert isinstance(_follow(script, 3)[1], Listed)
    assert script.listed == 2


def test_tries_again_until_the_server_is_there():
    script = Script(
        [
            lambda answer: answer.reply(500, {}),
            lambda answer: answer.reply(200, {"items": []}),
            lambda answer: answer.drop(),
            _good(),
        ],
        [_stream(then="wait")],
    )
    assert _follow(script, 1) == [Listed(objects=(NODE,))]
    assert script.listed == 4


def test_a_watch_that_always_ends_at_once_does_not_become_a_busy_loop():
    def at_once(answer):
        answer.begin_stream()
        answer.end_stream()

    script = Script([_good()], [at_once])

    async def watched():
        client = ApiClient(api.access, chance=lambda: 0.0)
        follower = Follower(
            client,
            "/api/v1/nodes",
            {},
            chance=lambda: 0.0,
            settings=FollowSettings(first_delay=0.2, longest_delay=0.2),
        )

        async def for_ever():
            async for _ in follower.events():
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(for_ever(), 0.7)

    with api_server(script) as api:
        run_bounded(watched)
    assert 3 <= len(script.watched) <= 8


def test_a_watch_that_says_nothing_counts_as_dead():
    script = Script([_good()], [_stream(then="wait"), _stream(("ADDED", _object("9")), then="wait")])
    assert len(_follow(script, 2, watch=0, silence=0.2)) == 2
    assert script.watched == ["1", "1"]


def test_where_we_have_no_right_it_is_an_error():
    script = Script([lambda answer: answer.reply(403, {"message": "no"})], [_stream()])
    with pytest.raises(ConfigError) as refused:
        _follow(script, 1)
    assert refused.value.code == "kube.forbidden"


def _pages(*pages):
    """Answers for a list in pages: each (items, token of the next one)."""
    return [
        lambda answer, items=items, token=token: answer.reply(
            200, {"metadata": {"resourceVersion": "1", "continue": token}, "items": list(items)}
        )
        for items, token in pages
    ]


def test_a_long_list_comes_in_pages_and_is_told_as_one():
    asked = []
    script = Script(_pages(([NODE], "more"), ([], "rest"), ([NODE], "")), [_stream(then="wait")])

    def remember(one, answer):
        asked.append(parse_qs(urlsplit(one.path).query))
        script(one, answer)

    assert _follow(remember, 1) == [Listed(objects=(NODE, NODE))]
    lists = [query for query in asked if "watch" not in query]
    assert [query["limit"] for query in lists] == [["500"]] * 3
    assert [query.get("continue") for query in lists] == [None, ["more"], ["rest"]]
    assert all(query["fieldSelector"] == ["x"] for query in lists)


def test_a_list_whose_pages_have_expired_begins_anew():
    expired = [*_pages(([NODE], "more")), lambda answer: answer.reply(410, {"message": "expired"})]
    script = Script([*expired, _good("4")], [_stream(then="wait")])
    assert _follow(script, 1) == [Listed(objects=(NODE,))]
    assert script.listed == 3


def test_only_what_is_to_be_kept_of_an_object_is_told():
    async def followed():
        client = ApiClient(api.access, chance=lambda: 0.0)
        follower = Follower(client, "/api/v1/nodes", {}, chance=lambda: 0.0, trim=lambda tree: {"kept": len(tree)})
        events = follower.events()
        assert await anext(events) == Listed(objects=({"kept": 1},))
        assert await anext(events) == Changed(change=Change.MODIFIED, object={"kept": 1})
        await events.aclose()

    with api_server(Script([_good()], [_stream(("MODIFIED", _object("6")), then="wait")])) as api:
        run_bounded(followed)
