"""Following whom to believe, and asking whether a user may.

Source: Kubernetes docs, "Set up an Extension API Server" (RBAC ``extension-apiserver-authentication-reader`` and
``system:auth-delegator``), "Authorization Overview"; Kubernetes API reference, SubjectAccessReview.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from bastide.cluster.metrics.external.requestheader import RequestHeader, User
from bastide.errors import BastideError, MalformedError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Tree, resource_path
from bastide.kube.follow import Change, Changed, Follower, FollowSettings
from bastide.pods.tree import mapping

_LOG = logging.getLogger(__name__)
_NAME: Final = "extension-apiserver-authentication"
_PATH: Final = resource_path("api", "v1", "namespaces", "kube-system", "configmaps")
_REVIEWS: Final = resource_path("apis", "authorization.k8s.io", "v1", "subjectaccessreviews")
_KEPT: Final = 10.0
"""Seconds for which an answer is believed, a yes and a no alike."""
_MOST_KEPT: Final = 1000
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody wants to do: read a metric of a namespace, or a path that is none.

    Attributes:
        path: for what is no resource; else empty.
        group, version, namespace, resource: of the metric.
    """

    path: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""

    def attributes(self) -> Tree:
        """The part of a SubjectAccessReview."""
        if self.path:
            return {"nonResourceAttributes": {"path": self.path, "verb": "get"}}
        # A path without the name of an object is a list to Kubernetes' own servers, and to the roles made for them.
        return {
            "resourceAttributes": {
                "group": self.group,
                "version": self.version,
                "namespace": self.namespace,
                "resource": self.resource,
                "verb": "list",
            }
        }


class Believed:
    """Follows the ConfigMap that says whom to believe.

    Attributes:
        now: what it says; nobody is believed before it was read, nor when it is gone or cannot be read.
        changed: set at each change; who has taken note clears it.
        fault: why there is no news; empty while all is well.
    """

    def __init__(
        self, client: ApiClient, *, chance: Callable[[], float], settings: FollowSettings | None = None
    ) -> None:
        query = {"fieldSelector": f"metadata.name={_NAME}"}
        self._follower = Follower(client, _PATH, query, chance=chance, settings=settings)
        self._chance = chance
        self.now = RequestHeader()
        self.changed = asyncio.Event()
        self.fault = "not read yet"

    async def run(self) -> None:
        """Follow until cancelled; a right that is missing is told and asked for again."""
        backoff = Backoff(first=1.0, longest=30.0, chance=self._chance)
        while True:
            try:
                async with aclosing(self._follower.events()) as events:
                    async for event in events:
                        backoff.reset()
                        if isinstance(event, Changed):
                            self._saw(None if event.change is Change.DELETED else event.object)
                        else:
                            self._saw(next(iter(event.objects), None))
            except BastideError as error:
                self._tell(str(error))
                await asyncio.sleep(backoff.next_delay())

    def _saw(self, tree: Tree | None) -> None:
        found, fault = RequestHeader(), ""
        if tree is None:
            fault = f"ConfigMap kube-system/{_NAME} is not there: is the aggregation layer configured?"
        else:
            try:
                found = RequestHeader.parse(tree)
                fault = "" if found.authorities else "the cluster names no authority of request headers"
            except MalformedError as error:
                fault = str(error)
        self._tell(fault)
        if found != self.now:
            self.now = found
            self.changed.set()

    def _tell(self, fault: str) -> None:
        if fault and fault != self.fault:
            _LOG.error("%s", fault)
        self.fault = fault


class Reviews:
    """Asks the API server whether a user may do something; answers are kept for some seconds.

    Args:
        client: of the API server.
        clock: seconds that only rise.
    """

    def __init__(self, client: ApiClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[tuple[User, Deed], tuple[float, bool]] = OrderedDict()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def may(self, user: User, deed: Deed) -> bool:
        """Whether the cluster's rules let them.

        Raises:
            UnavailableError, ConfigError, ConflictError, MalformedError: those of ``ApiClient.create``.
        """
        until, allowed = self._known.get((user, deed), (0.0, False))
        if until > self._clock():
            return allowed
        async with self._room:
            allowed = await self._review(user, deed)
        self._known[user, deed] = (self._clock() + _KEPT, allowed)
        self._known.move_to_end((user, deed))
        while len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return allowed

    async def _review(self, user: User, deed: Deed) -> bool:
        spec: Tree = {"user": user.name, "groups": list(user.groups), **deed.attributes()}
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra}
        body: Tree = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = mapping((await self._client.create(_REVIEWS, body)).get("status"))
        return status.get("allowed") is True and status.get("denied") is not True
