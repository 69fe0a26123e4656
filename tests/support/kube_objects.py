"""Objects of a make-believe API server: kept by path, with versions, lists, watches and preconditions."""

import copy
import json
import threading
from bisect import bisect_right
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from support.api_server import Asked, Exchange, Json


def _status(answer: Exchange, code: int, message: str) -> None:
    answer.reply(code, {"kind": "Status", "code": code, "message": message})


def _pointer(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _step(tree: object, key: str) -> object:
    return tree[int(key)] if isinstance(tree, list) else tree[key]


def apply_json_patch(tree: Json, operations: list[Json]) -> Json:
    """RFC 6902 as far as we use it; KeyError, IndexError or ValueError where it does not apply."""
    tree = copy.deepcopy(tree)
    for operation in operations:
        *parents, last = _pointer(operation["path"])
        parent: object = tree
        for key in parents:
            parent = _step(parent, key)
        match operation["op"]:
            case "test":
                if _step(parent, last) != operation["value"]:
                    raise ValueError(f"testing value {operation['path']} failed")
            case "remove":
                del parent[int(last) if isinstance(parent, list) else last]
            case "replace" | "add" if isinstance(parent, list):
                parent.insert(int(last), operation["value"]) if operation["op"] == "add" else parent.__setitem__(
                    int(last), operation["value"]
                )
            case "replace" | "add":
                if operation["op"] == "replace":
                    _step(parent, last)
                parent[last] = operation["value"]
    return tree


def merge(tree: Json, patch: Json) -> Json:
    """RFC 7396."""
    tree = copy.deepcopy(tree)
    for key, value in patch.items():
        if value is None:
            tree.pop(key, None)
        elif isinstance(value, dict):
            tree[key] = merge(tree.get(key) or {}, value)
        else:
            tree[key] = value
    return tree


@dataclass
class KubeObjects:
    """An answerer for ``api_server``: give it as it is.

    Attributes:
        objects: by path, such as ``/api/v1/namespaces/a/pods/b``.
        refuse: what is asked first: a status for (method, path), or None to go on.
    """

    objects: dict[str, Json] = field(default_factory=dict)
    refuse: object = None
    version: int = 0
    events: list[tuple[int, str, Json | None, Json | None]] = field(default_factory=list)
    rests: dict[str, tuple[int, list[Json]]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, path: str, tree: Json) -> Json:
        """Make or change an object, as somebody else would."""
        with self.changed:
            self.version += 1
            before = self.objects.get(path)
            metadata = {**tree.get("metadata", {}), "resourceVersion": str(self.version)}
            metadata.setdefault("name", path.rpartition("/")[2])
            self.objects[path] = {**copy.deepcopy(tree), "metadata": metadata}
            self.events.append((self.version, path, before, self.objects[path]))
            self.changed.notify_all()
            return self.objects[path]

    def delete(self, path: str) -> None:
        """Take an object away."""
        with self.changed:
            self.version += 1
            self.events.append((self.version, path, self.objects.pop(path), None))
            self.changed.notify_all()

    def __call__(self, asked: Asked, answer: Exchange) -> None:
        parts = urlsplit(asked.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if self.refuse is not None and (status := self.refuse(asked.method, parts.path)):
            _status(answer, status, "told to refuse")
        elif asked.method == "GET" and "watch" in query:
            self._watch(parts.path, query, answer)
        elif asked.method == "GET":
            self._get(parts.path, query, answer)
        else:
            self._write(asked, parts.path, answer)

    def _get(self, path: str, query: dict[str, str], answer: Exchange) -> None:
        last = path.rpartition("/")[2]
        with self.changed:
            there = self.objects.get(path)
            page = self._page(path, query) if there is None and last.islower() and last.endswith("s") else None
        if there is None and page is None:
            _status(answer, 404, f"{path} not found")
        else:
            answer.reply(200, there or page)

    def _page(self, path: str, query: dict[str, str]) -> Json:
        """A page of a list; what is left of one that was begun is as it was then."""
        if "continue" in query:
            version, items = self.rests[query["continue"]]
        else:
            version = self.version
            items = [tree for name, tree in self.objects.items() if _belongs(name, path) and _selects(query, tree)]
        limit, more = int(query.get("limit", len(items))), ""
        if limit < len(items):
            more = str(len(self.rests))
            self.rests[more] = (version, items[limit:])
        return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": items[:limit]}

    def _watch(self, path: str, query: dict[str, str], answer: Exchange) -> None:
        since = int(query["resourceVersion"])
        answer.begin_stream()
        while not answer.stop.is_set():
            with self.changed:
                fresh = self.events[bisect_right(self.events, since, key=lambda event: event[0]) :]
                if not fresh:
                    self.changed.wait(0.02)
            for version, name, before, after in fresh:
                since = version
                if _belongs(name, path) and (told := _event(query, before, after)):
                    kind, tree = told
                    metadata = {**tree["metadata"], "resourceVersion": str(version)}
                    answer.event(kind, {**tree, "metadata": metadata})
        answer.end_stream()

    def _write(self, asked: Asked, path: str, answer: Exchange) -> None:
        with self.changed:
            body = json.loads(asked.body or b"{}")
            if asked.method == "POST":
                path = f"{path}/{body['metadata']['name']}"
                if path in self.objects:
                    return _status(answer, 409, f"{path} already exists")
                return answer.reply(201, self.put(path, body))
            if path not in self.objects:
                return _status(answer, 404, f"{path} not found")
            there = self.objects[path]
            if asked.method == "PUT":
                if body["metadata"].get("resourceVersion") not in (None, there["metadata"]["resourceVersion"]):
                    return _status(answer, 409, "the object has been modified")
                return answer.reply(200, self.put(path, body))
            if asked.method == "DELETE":
                self.delete(path)
                return answer.reply(200, {"kind": "Status"})
            try:
                patched = (
                    apply_json_patch(there, body)
                    if asked.headers["Content-Type"] == "application/json-patch+json"
                    else merge(there, body)
                )
            except (KeyError, IndexError, ValueError) as error:
                return _status(answer, 422, f"the patch does not apply: {error}")
            return answer.reply(200, self.put(path, patched))


def _event(query: dict[str, str], before: Json | None, after: Json | None) -> tuple[str, Json] | None:
    """What a watch with selectors tells: an object that is selected no more is DELETED to it."""
    was, is_ = (tree is not None and _selects(query, tree) for tree in (before, after))
    if is_:
        return ("MODIFIED" if was else "ADDED"), after
    return ("DELETED", after or before) if was else None


def _selects(query: dict[str, str], tree: Json) -> bool:
    """``labelSelector`` and ``fieldSelector`` as far as we use them; a pod without status is Pending."""
    metadata = tree["metadata"]
    fields = {
        "metadata.name": metadata["name"],
        "spec.nodeName": (tree.get("spec") or {}).get("nodeName", ""),
        "status.phase": (tree.get("status") or {}).get("phase", "Pending"),
    }
    return _meets(query.get("labelSelector", ""), metadata.get("labels") or {}) and _meets(
        query.get("fieldSelector", ""), fields
    )


def _meets(selector: str, values: dict[str, str]) -> bool:
    """Whether all ``key=value`` and ``key!=value`` of a selector hold."""
    for one in filter(None, selector.split(",")):
        key, _, value = one.partition("=")
        if (values.get(key.removesuffix("!"), "") == value) is key.endswith("!"):
            return False
    return True


def _belongs(name: str, path: str) -> bool:
    """Whether an object is in the list at ``path``; ``/api/v1/pods`` lists those of all namespaces."""
    folder = name.rpartition("/")[0]
    head, namespaces, rest = folder.partition("/namespaces/")
    return folder == path or (bool(namespaces) and f"{head}/{rest.rpartition('/')[2]}" == path)
