"""The external metrics API as an ASGI application: only for the API server that aggregates it.

Source: ASGI 3.0, TLS extension 0.2; k8s.io/metrics external.metrics.k8s.io/v1beta1; Kubernetes docs, "Configure the
Aggregation Layer".
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from bastide.cluster.metrics.external import documents
from bastide.cluster.metrics.external.callers import Deed, Reviews
from bastide.cluster.metrics.external.documents import GROUP, VERSION
from bastide.cluster.metrics.external.requestheader import RequestHeader
from bastide.cluster.metrics.model import Known
from bastide.cluster.metrics.question import Metric, Scope, answer
from bastide.cluster.metrics.selector import Selector
from bastide.errors import BastideError, MalformedError, UntrustedError
from bastide.kube.client import Tree

HttpScope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_LOG = logging.getLogger(__name__)
_SECONDS: Final = 10.0
_LONGEST_QUERY: Final = 16 * 1024
_METRIC: Final = re.compile(
    rf"/apis/{re.escape(GROUP)}/{VERSION}/namespaces/([a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?)/([A-Za-z0-9_.-]{{1,253}})"
)
_OPEN: Final = ("/healthz", "/livez", "/readyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    tree: Tree
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "application/json"


class ExternalMetrics:
    """The application.

    Args:
        believed: whom to believe, at this moment.
        reviews: who may.
        known: what there is to answer from, at this moment.
        clock: the time, UTC.
    """

    def __init__(
        self,
        believed: Callable[[], RequestHeader],
        reviews: Reviews,
        known: Callable[[], Known],
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._believed = believed
        self._reviews = reviews
        self._known = known
        self._clock = clock

    async def __call__(self, scope: HttpScope, _receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if scope["method"] == "GET" and scope["path"] in _OPEN:
            await _send(send, HTTPStatus.OK, b"ok\n", "text/plain")
            return
        try:
            async with asyncio.timeout(_SECONDS):
                reply = await self._reply(scope)
        except TimeoutError:
            reply = _no(HTTPStatus.SERVICE_UNAVAILABLE, "no answer in time")
        except UntrustedError as error:
            _LOG.debug("%s", error)  # a stranger can make as many as it likes
            reply = _no(HTTPStatus.UNAUTHORIZED, error.message)
        except BastideError as error:
            _LOG.warning("%s", error)
            reply = _no(HTTPStatus.SERVICE_UNAVAILABLE, "the API server could not be asked whether you may")
        except Exception:  # noqa: BLE001 - nothing may leave without an answer
            _LOG.exception("a fault while answering")
            reply = _no(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of Bastide; its log tells more")
        await _send(send, reply.status, json.dumps(reply.tree).encode(), reply.content_type)

    async def _reply(self, scope: HttpScope) -> _Reply:
        """Who asks, whether they may, and only then what they ask."""
        user = self._believed().user(_certificate(scope), scope["headers"], self._clock())
        # The path as it was sent: encoded slashes and the like are no way to another namespace.
        path = scope["raw_path"].decode("latin-1")
        match = _METRIC.fullmatch(path)
        deed = (
            Deed(group=GROUP, version=VERSION, namespace=match[1], resource=match[2])
            if match
            else Deed(path=path[:1024])
        )
        if not await self._reviews.may(user, deed):
            return _no(HTTPStatus.FORBIDDEN, f"{user.name[:200]} may not read {path[:200]}")
        if scope["method"] != "GET":
            return _no(HTTPStatus.METHOD_NOT_ALLOWED, f"expected GET, seen {scope['method'][:20]}")
        return self._metric(match[1], match[2], scope["query_string"]) if match else _discovery(path, scope)

    def _metric(self, namespace: str, name: str, query: bytes) -> _Reply:
        if name not in tuple(Metric):
            return _no(HTTPStatus.NOT_FOUND, f"expected a metric of {', '.join(Metric)}, seen {name}")
        try:
            selector = _selector(query)
        except MalformedError as error:
            return _no(HTTPStatus.BAD_REQUEST, error.message)
        known = self._known()
        if known.measures is None:
            return _no(HTTPStatus.SERVICE_UNAVAILABLE, known.problem)
        metric = Metric(name)
        value = answer(metric, Scope(namespace=namespace, selector=selector), known.measures)
        return _Reply(tree=documents.values(metric, value, self._clock()))


def _discovery(path: str, scope: HttpScope) -> _Reply:
    match path:
        case "/apis":
            accepted = _header(scope, b"accept").replace(" ", "")
            if documents.AGGREGATED in accepted:
                return _Reply(tree=documents.aggregated(), content_type=documents.AGGREGATED)
            return _Reply(tree=documents.groups())
        case "/apis/external.metrics.k8s.io":
            return _Reply(tree=documents.group())
        case "/apis/external.metrics.k8s.io/v1beta1":
            return _Reply(tree=documents.resources())
    return _no(HTTPStatus.NOT_FOUND, "the server could not find the requested resource")


def _selector(query: bytes) -> Selector:
    try:
        fields = parse_qs(query[:_LONGEST_QUERY].decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise MalformedError("cluster.metrics.query", "expected a query") from None
    written = fields.get("labelSelector", [""])
    if len(written) > 1 or len(query) > _LONGEST_QUERY:
        raise MalformedError("cluster.metrics.query", "expected one labelSelector")
    return Selector.parse(written[0])


def _certificate(scope: HttpScope) -> str:
    shown = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return str(shown[0]) if shown else ""


def _header(scope: HttpScope, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _no(status: HTTPStatus, message: str) -> _Reply:
    return _Reply(tree=documents.refusal(status, message), status=status)


async def _send(send: Send, status: HTTPStatus, body: bytes, content_type: str) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-cache, private"),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
