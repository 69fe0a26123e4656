"""AdmissionReview: the bytes that the API server sends, as a value; and our answer, as bytes.

Reading goes in two steps, because an answer has to echo the request's ``uid``: what has none that could be echoed is
an HTTP error (:class:`Envelope`), all else is answered with ``allowed: false`` and the reason (:class:`Review`).

Source: Kubernetes "Dynamic Admission Control" (request, response, warnings); API ``admission.k8s.io/v1``;
k8s.io/apiserver ``pkg/endpoints/filters/warning.go`` (256 and 4096 characters); RFC 6902.
"""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bastide.errors import MalformedError
from bastide.kube.json_patch import Operation
from bastide.pods.tree import Path, at, shape_of, text
from bastide.token.json_text import STRICT_DECODER

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

LARGEST_REVIEW: Final = 3 << 20
"""Bytes. The API server takes requests of at most 3 MiB, and etcd objects of half of that."""

LONGEST_WARNING: Final = 256
"""Characters of one warning; the API server cuts longer ones where there are many."""

LONGEST_WARNINGS: Final = 4096
"""Characters of all warnings of a response; the API server drops what is beyond."""

_LONGEST_MESSAGE: Final = 4096
_LONGEST_UID: Final = 128
_DEEPEST: Final = 64
_CODE: Final = re.compile(r" \[[a-z0-9.-]{1,64}\]$")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class Verb(StrEnum):
    """What is done to the object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An AdmissionReview of which only the ``uid`` is known to be good.

    Attributes:
        uid: to echo; 1 to 128 characters.
        tree: the whole JSON object.
    """

    uid: str
    tree: dict[str, object]

    @classmethod
    def parse(cls, raw: bytes) -> "Envelope":
        """Read ``raw`` (JSON in UTF-8, at most 3 MiB and 64 levels, no key twice).

        Raises:
            MalformedError: ``admission.review.size``, ``.syntax``, ``.depth``, ``.uid``.
        """
        if len(raw) > LARGEST_REVIEW:
            message = f"expected at most {LARGEST_REVIEW} bytes, seen {len(raw)}"
            raise MalformedError("admission.review.size", message, hint="split the object, or make it smaller")
        tree = _read(raw)
        uid = at(tree, ("request", "uid"))
        if not isinstance(tree, dict) or not isinstance(uid, str) or not 0 < len(uid) <= _LONGEST_UID:
            raise MalformedError(
                "admission.review.uid",
                f"expected an {API_VERSION} {KIND} with request.uid of 1 to {_LONGEST_UID} characters",
                hint="only the API server calls this; see the webhook configurations of the chart",
            )
        return cls(uid=uid, tree=tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One request to judge.

    Attributes:
        uid: to echo.
        verb: what is done.
        group: API group of the object, empty for core.
        resource: plural name such as ``pods``.
        subresource: such as ``ephemeralcontainers``; empty for the object itself.
        namespace: where it is done; never empty. The object's own may be empty and does not count.
        name: of the object; empty where the API server will make one.
        user: who does it, such as ``system:serviceaccount:ns:name``.
        dry_run: nothing will be stored: no side effects.
        new: as it is to be stored.
        old: as it is stored; empty at CREATE.
    """

    uid: str
    verb: Verb
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str
    dry_run: bool
    new: dict[str, object]
    old: dict[str, object]

    @classmethod
    def of(cls, envelope: Envelope) -> "Review":
        """The request of an envelope.

        Raises:
            MalformedError: ``admission.review.version``, ``.verb``, ``.namespace``, ``.type``, ``.object``,
                ``.dry-run``.
        """
        tree = envelope.tree
        seen = (tree.get("apiVersion"), tree.get("kind"))
        if seen != (API_VERSION, KIND):
            raise MalformedError(
                "admission.review.version",
                f"expected {API_VERSION} {KIND}, seen {_short(seen[0])} {_short(seen[1])}",
                hint="admissionReviewVersions of the webhook configuration is [v1]",
            )
        verb = _verb(_text(tree, "operation"))
        namespace = _text(tree, "namespace")
        if not namespace:
            raise MalformedError(
                "admission.review.namespace",
                "expected request.namespace, seen none: what is judged here lives in namespaces",
                hint="check the rules of the webhook configuration",
            )
        return cls(
            uid=envelope.uid,
            verb=verb,
            group=_text(tree, "resource", "group"),
            resource=_text(tree, "resource", "resource"),
            subresource=_text(tree, "subResource"),
            namespace=namespace,
            name=_text(tree, "name"),
            user=_text(tree, "userInfo", "username"),
            dry_run=_flag(tree, "dryRun"),
            new=_object(tree, "object", needed=verb in (Verb.CREATE, Verb.UPDATE)),
            old=_object(tree, "oldObject", needed=verb is Verb.UPDATE),
        )


class Refused(StrEnum):
    """Kinds of refusal, as the reasons of Kubernetes' Status."""

    FORBIDDEN = "Forbidden"
    """The object is not to be: asking again changes nothing."""

    INVALID = "BadRequest"
    """The request cannot be understood."""

    RETRY = "ServiceUnavailable"
    """Not now: clients and controllers are asked to come again."""


_STATUS: Final = {Refused.FORBIDDEN: 403, Refused.INVALID: 400, Refused.RETRY: 503}

RETRY_SECONDS: Final = 2
"""After how long a client should come again; kubectl and client-go do so by themselves, up to ten times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something is refused.

    Attributes:
        code: stable identifier of the first reason, such as ``provision.denied``.
        message: what was expected and seen and what to do, for people; several reasons in several lines.
        kind: whether asking again helps.
    """

    code: str
    message: str
    kind: Refused = Refused.FORBIDDEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What we say to one review.

    Attributes:
        refusal: None: allowed.
        warnings: for the person at the other end, shortened and counted by ``build``.
        patch: what to change; none where it is refused.
        annotations: for the API server's audit log, short names to values.
    """

    refusal: Refusal | None = None
    warnings: tuple[str, ...] = ()
    patch: tuple[Operation, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the object may be stored."""
        return self.refusal is None

    def build(self, uid: str) -> bytes:
        """The AdmissionReview that answers the request ``uid``."""
        response: dict[str, object] = {"uid": uid, "allowed": self.allowed}
        if self.refusal is not None:
            response["status"] = _status(self.refusal)
        elif self.patch:
            operations = [operation.build() for operation in self.patch]
            response["patchType"] = "JSONPatch"
            response["patch"] = b64encode(json.dumps(operations, separators=(",", ":")).encode()).decode()
        if self.warnings:
            response["warnings"] = list(shortened(self.warnings))
        if self.annotations:
            response["auditAnnotations"] = dict(self.annotations)
        tree = {"apiVersion": API_VERSION, "kind": KIND, "response": response}
        return json.dumps(tree, separators=(",", ":")).encode()


def shortened(warnings: Sequence[str]) -> tuple[str, ...]:
    """Warnings within the API server's limits, each once, the last of them saying how many are left out."""
    lines = tuple(dict.fromkeys(one_line(warning, LONGEST_WARNING) for warning in warnings))
    kept: list[str] = []
    room = LONGEST_WARNINGS - LONGEST_WARNING
    for line in lines:
        room -= len(line)
        if room < 0:
            kept.append(f"and {len(lines) - len(kept)} more: see `bastide cluster lint`")
            break
        kept.append(line)
    return tuple(kept)


def one_line(message: str, longest: int) -> str:
    """``message`` as one printable line of at most ``longest`` characters; a code in brackets at its end stays."""
    plain = _UNPRINTABLE.sub(" ", message)
    if len(plain) <= longest:
        return plain
    code = _CODE.search(plain)
    end = code.group() if code else ""
    return plain[: longest - 1 - len(end)] + "…" + end


def _status(refusal: Refusal) -> dict[str, object]:
    lines = [one_line(line, _LONGEST_MESSAGE) for line in refusal.message.splitlines()]
    message = "\n".join(lines)
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    status: dict[str, object] = {
        "status": "Failure",
        "code": _STATUS[refusal.kind],
        "reason": str(refusal.kind),
        "message": message,
    }
    if refusal.kind is Refused.RETRY:
        status["details"] = {"retryAfterSeconds": RETRY_SECONDS}
    return status


def _read(raw: bytes) -> object:
    try:
        tree: object = STRICT_DECODER.decode(raw.decode())
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors, as are our hooks' own
        message = f"expected JSON in UTF-8: {one_line(str(error), 120)}"
        raise MalformedError("admission.review.syntax", message) from None
    level: list[object] = [tree]
    for _ in range(_DEEPEST):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return tree
    raise _too_deep()


def _too_deep() -> MalformedError:
    return MalformedError("admission.review.depth", f"expected at most {_DEEPEST} levels of JSON")


def _verb(word: str) -> Verb:
    try:
        return Verb(word)
    except ValueError:
        message = f"expected one of {', '.join(Verb)}, seen {_short(word)}"
        raise MalformedError("admission.review.verb", message, where="request.operation") from None


def _text(tree: object, *path: str) -> str:
    value = at(tree, ("request", *path))
    if value is not None and not isinstance(value, str):
        raise _wrong_type(("request", *path), "text", value)
    return text(value)


def _flag(tree: object, name: str) -> bool:
    value = at(tree, ("request", name))
    if value is not None and not isinstance(value, bool):
        raise _wrong_type(("request", name), "true or false", value)
    return value is True


def _object(tree: object, name: str, *, needed: bool) -> dict[str, object]:
    value = at(tree, ("request", name))
    if value is None and not needed:
        return {}
    if not isinstance(value, dict):
        raise MalformedError(
            "admission.review.object", f"expected a mapping, seen {shape_of(value)}", where=f"request.{name}"
        )
    return value


def _wrong_type(path: Path, expected: str, seen: object) -> MalformedError:
    where = ".".join(str(step) for step in path)
    return MalformedError("admission.review.type", f"expected {expected}, seen {shape_of(seen)}", where=where)


def _short(value: object) -> str:
    return one_line(ascii(value), 60) if isinstance(value, str) else shape_of(value)
