"""A make-believe API server with one Node and its pods: list, watch, JSON patch with tests, merge patch."""

import copy
import threading
from urllib.parse import parse_qs, urlsplit

from support.api_server import Asked, Exchange

EPC = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"


def node(**capacity: str) -> dict[str, object]:
    return {
        "kind": "Node",
        "metadata": {"name": "n", "uid": "u-1", "resourceVersion": "10", "labels": {"kubernetes.io/os": "linux"}},
        "spec": {},
        "status": {"capacity": dict(capacity), "allocatable": dict(capacity)},
    }


class NodeApi:
    """The answerer of ``api_server``. ``change`` is somebody else's write."""

    def __init__(self, tree: dict[str, object], pods: list[dict[str, object]] | None = None) -> None:
        self.node = tree
        self.pods = pods or []
        self.patches: list[tuple[str, object]] = []
        self.refuse: dict[str, int] = {}
        self.history: list[tuple[int, str, dict[str, object]]] = []
        self._changed = threading.Condition()
        self._ended = 0

    @property
    def capacity(self) -> str | None:
        return self.node["status"]["capacity"].get(EPC)

    @property
    def labels(self) -> dict[str, str]:
        return self.node["metadata"]["labels"]

    def change(self, edit) -> None:
        with self._changed:
            after = copy.deepcopy(self.node)
            edit(after)
            self._store(after)

    def end_watches(self) -> None:
        """Tell every watch that its place is forgotten."""
        self._ended += 1

    def __call__(self, asked: Asked, answer: Exchange) -> None:
        parts = urlsplit(asked.path)
        query = parse_qs(parts.query)
        status = self.refuse.get(f"{asked.method} {parts.path}") or self.refuse.get(asked.method)
        if status:
            answer.reply(status, {"message": "refused by the test"})
        elif asked.method == "PATCH":
            self._patch(asked, parts.path, answer)
        elif "watch" in query:
            self._watch(answer, int(query["resourceVersion"][0]), pods=parts.path.endswith("/pods"))
        elif parts.path.endswith("/nodes"):
            answer.reply(200, {"metadata": {"resourceVersion": self._version()}, "items": [self.node]})
        elif parts.path.endswith("/pods"):
            answer.reply(200, {"metadata": {"resourceVersion": self._version()}, "items": self.pods})
        else:
            answer.reply(200, self.node)

    def _version(self) -> str:
        return self.node["metadata"]["resourceVersion"]

    def _patch(self, asked: Asked, path: str, answer: Exchange) -> None:
        body = asked.json
        with self._changed:
            after = copy.deepcopy(self.node)
            good = _merge(after, body) if isinstance(body, dict) else _json_patch(after, body)
            self.patches.append((path, body))
            if good:
                self._store(after)
        answer.reply(200, self.node) if good else answer.reply(422, {"message": "the test failed"})

    def _store(self, after: dict[str, object]) -> None:
        version = int(self._version()) + 1
        after["metadata"]["resourceVersion"] = str(version)
        self.node = after
        self.history.append((version, "MODIFIED", after))
        self._changed.notify_all()

    def _watch(self, answer: Exchange, version: int, *, pods: bool) -> None:
        answer.begin_stream()
        ended = self._ended
        while not answer.stop.is_set():
            if ended != self._ended:
                answer.event("ERROR", {"code": 410})
                answer.end_stream()
                return
            with self._changed:
                news = [] if pods else [event for event in self.history if event[0] > version]
                if not news:
                    self._changed.wait(0.05)
            for number, kind, tree in news:
                version = number
                answer.event(kind, tree)


def _merge(tree, patch) -> bool:
    uid = patch["metadata"].pop("uid", None)
    if uid != tree["metadata"]["uid"]:
        return False
    for name, value in patch["metadata"]["labels"].items():
        if value is None:
            tree["metadata"]["labels"].pop(name, None)
        else:
            tree["metadata"]["labels"][name] = value
    return True


def _json_patch(tree, operations) -> bool:
    for one in operations:
        *folders, last = [step.replace("~1", "/").replace("~0", "~") for step in one["path"].split("/")[1:]]
        place = tree
        for step in folders:
            place = place.get(step, {})
        if one["op"] == "test" and place.get(last) != one["value"]:
            return False
        if one["op"] in ("add", "replace"):
            place[last] = one["value"]
        if one["op"] == "remove":
            del place[last]
    return True
