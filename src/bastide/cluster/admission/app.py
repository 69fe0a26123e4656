"""The ASGI application: three webhooks and three pages. Every review that has a uid gets an AdmissionReview back."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, ParamSpec, TypeVar

from bastide.cluster.admission.configurations import MUTATE_PATH, VALIDATE_PATH, WARN_PATH
from bastide.cluster.admission.metrics import Metrics
from bastide.cluster.admission.mutate import mutate
from bastide.cluster.admission.quotas import mutate_quota
from bastide.cluster.admission.review import LARGEST_REVIEW, Answer, Envelope, Refusal, Refused, Review, Verb
from bastide.cluster.admission.subject import Subject
from bastide.cluster.admission.validate import validate
from bastide.cluster.admission.words import malformed
from bastide.cluster.admission.workloads import advise
from bastide.cluster.admission.world import World
from bastide.cluster.prometheus import CONTENT_TYPE
from bastide.cluster.resolving import Resolver
from bastide.errors import MalformedError
from bastide.web.asgi import BodyError, GoneError, Receive, Scope, Send, read_body, send_whole

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_LARGE: Final = 64 * 1024
"""Bytes from which on a review is worked on beside the event loop."""

_LARGE_AT_ONCE: Final = 2

_BODY_SECONDS: Final = 5.0
_REASONS: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestEntityTooLarge",
    HTTPStatus.REQUEST_TIMEOUT: "Timeout",
}
"""As Kubernetes' Status has them."""
_PODS: Final = (("", "pods", ""), ("", "pods", "ephemeralcontainers"))
_QUOTAS: Final = ("", "resourcequotas", "")
_WORKLOADS: Final = (
    *(("apps", resource, "") for resource in ("deployments", "replicasets", "daemonsets", "statefulsets")),
    *(("batch", resource, "") for resource in ("jobs", "cronjobs")),
)
_log = logging.getLogger("bastide.admission")


class App:
    """The application.

    Args:
        world: what is judged by, at this moment.
        resolver: asks for digests; None where there is no scanner.
        metrics: where answers are counted.
        not_ready: why no review should come yet; empty when ready.
        remarks: what is not as it should be, and no reason to stop.
    """

    def __init__(
        self,
        world: Callable[[], World],
        *,
        resolver: Resolver | None,
        metrics: Metrics,
        not_ready: Callable[[], Sequence[str]],
        remarks: Callable[[], Sequence[str]],
    ) -> None:
        self._world = world
        self._resolver = resolver
        self._metrics = metrics
        self._not_ready = not_ready
        self._remarks = remarks
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if path in (MUTATE_PATH, VALIDATE_PATH, WARN_PATH):
            if method != "POST":
                await _send_json(send, 405, _http_error(405, "MethodNotAllowed", "expected POST"))
                return
            await self._review(path, receive, send)
            return
        await self._page(path, send)

    async def _page(self, path: str, send: Send) -> None:
        match path:
            case "/healthz":
                await _send_json(send, 200, {"status": "ok"})
            case "/readyz":
                why = list(self._not_ready())
                told = {"status": "not ready" if why else "ready", "reasons": why, "remarks": list(self._remarks())}
                await _send_json(send, 503 if why else 200, told)
            case "/metrics":
                await send_whole(send, 200, self._metrics.text(), CONTENT_TYPE)
            case _:
                await _send_json(send, 404, _http_error(404, "NotFound", "there is nothing at this path"))

    async def _review(self, path: str, receive: Receive, send: Send) -> None:
        try:
            raw = await read_body(receive, largest=LARGEST_REVIEW, seconds=_BODY_SECONDS)
        except GoneError:
            return
        except BodyError as bad:
            self._metrics.answered(path[1:], "malformed", 0.0)
            await _send_json(send, bad.status, _http_error(bad.status, _REASONS[bad.status], str(bad)))
            return
        if len(raw) < _LARGE:
            await self._reviewed(path, raw, send)
            return
        # A few at a time: what somebody makes large keeps itself waiting, and not the reviews of others.
        async with self._large:
            await self._reviewed(path, raw, send)

    async def _reviewed(self, path: str, raw: bytes, send: Send) -> None:
        began = time.perf_counter()
        try:
            envelope = await _beside(raw, Envelope.parse, raw)
        except MalformedError as error:
            self._metrics.answered(path[1:], "malformed", time.perf_counter() - began, code=error.code)
            await _send_json(send, 400, _http_error(400, "BadRequest", str(error)))
            return
        answer = await self._answer(path, envelope, raw)
        self._count(path[1:], answer, time.perf_counter() - began)
        await send_whole(send, 200, answer.build(envelope.uid), "application/json")

    async def _answer(self, path: str, envelope: Envelope, raw: bytes) -> Answer:
        """Never without one: a fault of ours refuses pods, and lets workloads pass with a warning."""
        try:
            review = Review.of(envelope)
            _refuse_foreign(path, review)
            return await self._judged(path, review, raw)
        except MalformedError as error:
            return Answer(warnings=(str(error),)) if path == WARN_PATH else Answer(refusal=malformed(error))
        except Exception:  # noqa: BLE001 - nothing may leave without an answer
            _log.exception("fault in %s", path)
            told = "Bastide's admission is at fault here: its log says why"
            if path == WARN_PATH:
                return Answer(warnings=(told,))
            return Answer(refusal=Refusal(code="admission.fault", message=told, kind=Refused.RETRY))

    async def _judged(self, path: str, review: Review, raw: bytes) -> Answer:
        why = self._not_ready()
        if path == WARN_PATH:
            return _not_yet(path, why) if why else await _beside(raw, advise, review, self._world())
        if review.resource == _QUOTAS[1]:
            return mutate_quota(review)
        subject = await _beside(raw, Subject.of, review.new)
        if why and subject.is_sgx:
            return _not_yet(path, why)
        if path == MUTATE_PATH:
            if len(raw) < _LARGE:
                return await mutate(review, subject, self._world(), self._resolver)
            # It asks the scanner too, so it has an event loop of its own there.
            return await _beside(raw, lambda: asyncio.run(mutate(review, subject, self._world(), self._resolver)))
        return await _beside(raw, validate, review, subject, self._world())

    def _count(self, webhook: str, answer: Answer, seconds: float) -> None:
        refusal = answer.refusal
        if refusal is None:
            self._metrics.answered(webhook, "patched" if answer.patch else "allowed", seconds)
            return
        outcome = {Refused.RETRY: "retry", Refused.INVALID: "malformed"}.get(refusal.kind, "refused")
        self._metrics.answered(webhook, outcome, seconds, code=refusal.code)


def _refuse_foreign(path: str, review: Review) -> None:
    """What we were not made for is refused by name: a rule that is too wide is to be noticed."""
    known = {WARN_PATH: _WORKLOADS, MUTATE_PATH: (*_PODS, _QUOTAS)}.get(path, _PODS)
    if (review.group, review.resource, review.subresource) not in known:
        seen = "/".join(filter(None, (review.group, review.resource, review.subresource)))
        expected = "workloads of apps and batch" if path == WARN_PATH else "pods and pods/ephemeralcontainers"
        raise MalformedError(
            "admission.review.resource",
            f"expected {expected} at {path}, seen {seen[:200]!r}",
            hint="check the rules of the webhook configuration",
        )
    if review.verb not in (Verb.CREATE, Verb.UPDATE):
        raise MalformedError(
            "admission.review.verb",
            f"expected CREATE or UPDATE, seen {review.verb}",
            hint="check the rules of the webhook configuration",
        )


def _not_yet(path: str, why: Sequence[str]) -> Answer:
    told = f"Bastide's admission has just started ({'; '.join(why)}): retry"
    if path == WARN_PATH:
        return Answer(warnings=(told,))
    return Answer(refusal=Refusal(code="admission.not-ready", message=told, kind=Refused.RETRY))


async def _beside(
    raw: bytes, work: Callable[_Given, _Result], *arguments: _Given.args, **named: _Given.kwargs
) -> _Result:
    """Do ``work`` here, or in a thread where the review is large."""
    if len(raw) < _LARGE:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)


def _http_error(status: int, reason: str, message: str) -> dict[str, object]:
    """Kubernetes' Status, for what has no uid."""
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": status,
        "reason": reason,
        "message": message,
    }


async def _send_json(send: Send, status: int, tree: Mapping[str, object]) -> None:
    await send_whole(send, status, json.dumps(tree).encode(), "application/json")
