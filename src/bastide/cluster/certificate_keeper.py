"""Keeps a server's certificates: in a Secret, in files for the TLS context, and in the webhook configurations.

Every replica reads the Secret and serves what it says. Only the one that leads makes, renews and publishes; two that
both believe to lead do no harm, because a write counts only on top of the state that was read.

Source: Kubernetes API conventions ("Concurrency control and consistency"); RFC 6902.
"""

import asyncio
import base64
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from bastide.cluster.certificates import Certificates, Step, begin, next_step, take
from bastide.errors import BastideError, ConflictError, MalformedError
from bastide.kube.backoff import Backoff
from bastide.kube.client import ApiClient, Patch, Tree, resource_path
from bastide.pods.tree import at, mapping, sequence, text
from bastide.web.tls import CERTIFICATE_FILE, KEY_FILE

_LOG = logging.getLogger(__name__)
_WAIT = 0.25
"""Seconds between two looks while there is no certificate to serve with."""

_MANAGED_BY = {"app.kubernetes.io/managed-by": "bastide"}


class Publisher(Protocol):
    """Tells those who connect whom to trust."""

    async def publish(self, bundle: bytes) -> None:
        """Write ``bundle`` (PEM) wherever it is not yet.

        Raises:
            BastideError: it could not be written everywhere.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """What is kept, and how often it is looked at.

    Attributes:
        namespace: of the Secret.
        secret: its name.
        names: DNS names of the server, the first one for the certificate's subject.
        folder: for the files; memory, not disk, where possible.
        interval: seconds between two looks.
        settle: how long a new CA is left alone before the server shows a certificate of it: until all who connect
            have read the new bundle.
    """

    namespace: str
    secret: str
    names: tuple[str, ...]
    folder: Path
    interval: float = 10.0
    settle: timedelta = timedelta(minutes=2)


class CertificateKeeper:
    """Keeps one server's certificates.

    Args:
        client: of the API server.
        settings: see there.
        publisher: None where those who connect read the Secret themselves.
        leads: whether this replica may write now.
        clock: the time, UTC.
        chance: random numbers in [0, 1) for the back-off.

    Attributes:
        fault: why the last look did not succeed; empty where it did.
    """

    def __init__(
        self,
        client: ApiClient,
        settings: KeeperSettings,
        *,
        publisher: Publisher | None,
        leads: Callable[[], bool],
        clock: Callable[[], datetime],
        chance: Callable[[], float],
    ) -> None:
        self._client = client
        self._settings = settings
        self._publisher = publisher
        self._leads = leads
        self._clock = clock
        self._backoff = Backoff(first=0.5, longest=settings.interval, chance=chance)
        self._folder = resource_path("api", "v1", "namespaces", settings.namespace, "secrets")
        self._held: Certificates | None = None
        self._written: Certificates | None = None
        self._loaded = asyncio.Event()
        self.fault = ""

    @property
    def files(self) -> tuple[Path, Path]:
        """Certificate and key; there once ``loaded`` has returned."""
        return self._settings.folder / CERTIFICATE_FILE, self._settings.folder / KEY_FILE

    @property
    def expires(self) -> datetime | None:
        """When the certificate in the files ends; None before there is one."""
        return None if self._written is None else self._written.leaf.not_valid_after_utc

    async def loaded(self) -> None:
        """Wait until the files are there."""
        await self._loaded.wait()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.look()
            except BastideError as error:
                if self.fault != str(error):
                    _LOG.warning("%s", error)
                self.fault = str(error)
                await asyncio.sleep(self._backoff.next_delay())
            else:
                self.fault = ""
                self._backoff.reset()
                waits = not self._loaded.is_set()
                await asyncio.sleep(min(_WAIT, self._settings.interval) if waits else self._settings.interval)

    async def look(self) -> None:
        """Read, and do what is due.

        Raises:
            BastideError: those of ``ApiClient``; a ``kube.conflict`` means that another was faster.
        """
        secret = await self._read()
        held = self._understood(secret)
        if self._leads():
            held = await self._lead(secret, held)
        if held is None:
            return
        self._held = held
        self._write(held)

    async def _read(self) -> Tree | None:
        try:
            return await self._client.get(f"{self._folder}{resource_path(self._settings.secret)}")
        except ConflictError as error:
            if error.code != "kube.not-found":
                raise
            return None

    def _understood(self, secret: Tree | None) -> Certificates | None:
        if secret is None or not secret.get("data"):  # the chart makes it empty, so that uninstalling takes it away
            return None
        try:
            return Certificates.parse(secret)
        except MalformedError as error:
            _LOG.error("Secret %s: %s", self._settings.secret, error)
            return None

    async def _lead(self, secret: Tree | None, held: Certificates | None) -> Certificates:
        """Make what is missing, publish, and renew what is due: one step at a look."""
        now = self._clock()
        if held is None:
            held = self._held or begin(self._settings.names, now)
            await self._store(secret, held)
            secret = await self._read()
        published = await self._published(held, now)
        step = next_step(held, self._settings.names, now, published=published)
        if step is None:
            return held
        after = take(step, held, self._settings.names, now)
        _LOG.info("certificates: %s renewed", step)
        await self._store(secret, after)
        if step is not Step.LEAF and self._publisher is not None:
            await self._publisher.publish(after.bundle_pem)
        return after

    async def _published(self, held: Certificates, now: datetime) -> bool:
        """Whether those who connect know the present CA; a fault is told, and is no reason to stop serving."""
        if self._publisher is not None:
            try:
                await self._publisher.publish(held.bundle_pem)
            except BastideError as error:
                _LOG.warning("caBundle: %s", error)
                return False
        return now >= held.made_at + self._settings.settle

    async def _store(self, secret: Tree | None, held: Certificates) -> None:
        metadata: Tree = {"name": self._settings.secret, "namespace": self._settings.namespace, "labels": _MANAGED_BY}
        if secret is not None:
            metadata = mapping(secret.get("metadata"))
        body: Tree = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls" if secret is None else secret.get("type", "Opaque"),
            "metadata": metadata,
            "data": held.build(),
        }
        if secret is None:
            await self._client.create(self._folder, body)
        else:
            await self._client.replace(f"{self._folder}{resource_path(self._settings.secret)}", body)

    def _write(self, held: Certificates) -> None:
        """Put certificate and key where the TLS context finds them; it takes a pair only when both fit."""
        if self._written is not None and self._written.leaf == held.leaf:
            return
        self._settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate, key = self.files
        _replace(key, held.leaf_key_pem)
        _replace(certificate, held.leaf_pem)
        self._written = held
        self._loaded.set()


class WebhookBundles:
    """The ``caBundle`` of webhook configurations.

    Args:
        client: of the API server.
        configurations: path segment (``mutatingwebhookconfigurations``...) and name of each.
        service: namespace and name of the Service; other webhooks of a configuration are left alone.
    """

    def __init__(
        self, client: ApiClient, configurations: Sequence[tuple[str, str]], *, service: tuple[str, str]
    ) -> None:
        self._client = client
        self._paths = [
            resource_path("apis", "admissionregistration.k8s.io", "v1", kind, name) for kind, name in configurations
        ]
        self._service = service

    async def publish(self, bundle: bytes) -> None:
        """Write ``bundle`` into every configuration that has another.

        Raises:
            BastideError: those of ``ApiClient``, after all have been tried; a configuration that does not exist is
                one of them (``kube.not-found``).
        """
        failure: BastideError | None = None
        for path in self._paths:
            try:
                await self._publish(path, base64.b64encode(bundle).decode())
            except BastideError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def _publish(self, path: str, wanted: str) -> None:
        tree = await self._client.get(path)
        operations = [
            operation
            for index, webhook in enumerate(sequence(tree.get("webhooks")))
            if self._is_ours(webhook)
            for operation in _bundle_patch(index, webhook, wanted)
        ]
        if operations:
            await self._client.patch(path, Patch.JSON, operations, {"fieldManager": "bastide"})

    def _is_ours(self, webhook: object) -> bool:
        service = mapping(at(webhook, ("clientConfig", "service")))
        return (text(service.get("namespace")), text(service.get("name"))) == self._service


def _bundle_patch(index: int, webhook: object, wanted: str) -> list[Tree]:
    """Guarded by what was read: another writer in between is noticed, and not undone."""
    seen = text(at(webhook, ("clientConfig", "caBundle")))
    if seen == wanted:
        return []
    place = f"/webhooks/{index}"
    guards: list[Tree] = [{"op": "test", "path": f"{place}/name", "value": text(at(webhook, ("name",)))}]
    if seen:
        guards.append({"op": "test", "path": f"{place}/clientConfig/caBundle", "value": seen})
    return [*guards, {"op": "add", "path": f"{place}/clientConfig/caBundle", "value": wanted}]


def _replace(file: Path, content: bytes) -> None:
    part = file.with_name(f".{file.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        opened.write(content)
    part.replace(file)
