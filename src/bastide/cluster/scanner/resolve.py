"""What admission and the controller ask: the digests of images, within two seconds; and that somebody looks into them.

A tag is asked for in a thread and may take longer than one question: the answer is kept for a moment, so that asking
again finds it.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from bastide.cluster.scanner.client import Repository
from bastide.cluster.scanner.http import Deadline
from bastide.cluster.scanner.job import RegistryOptions
from bastide.cluster.scanner.metrics import Metrics
from bastide.cluster.scanner.scans import Source, Standing
from bastide.cluster.scanner.secrets import PodSecrets
from bastide.errors import BastideError, ConflictError, MalformedError, UnavailableError
from bastide.pods.images import ImageReference
from bastide.pods.tree import shape_of
from bastide.token.json_text import read_json

BUDGET: Final = 1.7
"""Seconds for one question; whoever asks waits 2."""
LARGEST_QUESTION: Final = 256 * 1024
MOST_IMAGES: Final = 64
_MOST_NAMES: Final = 64
_AT_ONCE: Final = 16
_MOST_UNDER_WAY: Final = 256
_TAG_SECONDS: Final = 8.0
_KEPT: Final = 10.0
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

Tree = dict[str, object]


class Asker(Protocol):
    """Has images looked into."""

    def ask(self, source: Source) -> Standing:
        """See ``Scans.ask``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One pod's images.

    Attributes:
        namespace: of the pod.
        service_account: of the pod; empty for ``default``.
        pull_secrets: names of secrets.
        images: as the containers name them.
        dry_run: begin no inspection.
    """

    namespace: str
    service_account: str
    pull_secrets: tuple[str, ...]
    images: tuple[str, ...]
    dry_run: bool = False

    @classmethod
    def parse(cls, raw: bytes) -> "Question":
        """Read the body of a request.

        Raises:
            MalformedError: ``scanner.question``.
        """
        try:
            tree = read_json(raw, largest=LARGEST_QUESTION)
        except MalformedError as error:
            raise MalformedError("scanner.question", error.message) from None
        if not isinstance(tree, dict):
            raise MalformedError("scanner.question", f"expected an object, seen {shape_of(tree)}")
        unknown = set(tree) - {"namespace", "serviceAccount", "pullSecrets", "images", "dryRun"}
        if unknown:
            raise MalformedError("scanner.question", f"unknown field {min(unknown)[:80]!r}")
        dry_run = tree.get("dryRun", False)
        if not isinstance(dry_run, bool):
            raise MalformedError("scanner.question", "expected true or false", where="dryRun")
        return cls(
            namespace=_name(tree.get("namespace"), "namespace"),
            service_account=_name(tree.get("serviceAccount") or "default", "serviceAccount"),
            pull_secrets=tuple(_name(one, "pullSecrets") for one in _texts(tree.get("pullSecrets", []), "pullSecrets")),
            images=_texts(tree.get("images"), "images"),
            dry_run=dry_run,
        )


class Resolver:
    """Answers questions.

    Args:
        options: which registries may be asked.
        secrets: reads the pull secrets of a namespace: namespace, service account, names.
        scans: has images looked into.
        metrics: counts.
        budget: seconds for one question.
    """

    def __init__(
        self,
        options: RegistryOptions,
        secrets: Callable[[str, str, tuple[str, ...]], Coroutine[None, None, PodSecrets]],
        scans: Asker,
        metrics: Metrics,
        *,
        budget: float = BUDGET,
    ) -> None:
        self._registries = options.registries()
        self._wire = options.wire()
        self._secrets = secrets
        self._scans = scans
        self._metrics = metrics
        self._budget = budget
        self._threads = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="resolve")
        self._tags: dict[tuple[object, ...], asyncio.Task[str]] = {}

    def close(self) -> None:
        """Ask nobody any more."""
        for task in self._tags.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, question: Question) -> Tree:
        """``{"images": {image: {"digest", "scan"} or {"error": {"code", "message", "permanent"}}}}``."""
        images = tuple(dict.fromkeys(question.images))
        found = await asyncio.gather(*(self._one(question, image) for image in images))
        for one in found:
            self._metrics.resolved.labels(result="error" if "error" in one else "digest").inc()
        return {"images": dict(zip(images, found, strict=True))}

    async def _one(self, question: Question, text: str) -> Tree:
        try:
            image = ImageReference.parse(text)
            self._registries.find(image)
            digest = image.digest or await self._within(self._tag(question, image))
            if not _DIGEST.fullmatch(digest):
                hint = "pin the image by its sha256 digest"
                raise MalformedError("scanner.image.digest", "only sha256 digests can be looked up", hint=hint)
        except BastideError as error:
            return _error(error)
        if question.dry_run:
            return {"digest": digest}
        source = Source(
            image=ImageReference(registry=image.registry, repository=image.repository, tag=None, digest=digest),
            namespace=question.namespace,
            service_account=question.service_account,
            pull_secrets=question.pull_secrets,
        )
        return {"digest": digest, "scan": str(self._scans.ask(source))}

    async def _within(self, task: asyncio.Task[str]) -> str:
        done, _ = await asyncio.wait([task], timeout=self._budget)
        if not done:
            message = f"the registry gave no digest within {self._budget:g} s"
            raise UnavailableError("scanner.resolve.slow", message, hint="ask again: it is still being asked")
        if task.cancelled():
            raise UnavailableError("scanner.resolve.slow", "the scanner is ending")
        return task.result()

    def _tag(self, question: Question, image: ImageReference) -> asyncio.Task[str]:
        """The one task that asks for a tag with the rights of a pod; its result is kept for a moment."""
        key = (question.namespace, question.service_account, question.pull_secrets, image)
        task = self._tags.get(key)
        if task is None:
            if len(self._tags) >= _MOST_UNDER_WAY:
                raise UnavailableError("scanner.resolve.busy", "too many tags are being asked for at once")
            task = self._tags[key] = asyncio.ensure_future(self._ask(question, image))
            task.add_done_callback(lambda done: self._keep(key, done))
        return task

    def _keep(self, key: tuple[object, ...], task: asyncio.Task[str]) -> None:
        failed = task.cancelled() or task.exception() is not None
        loop = asyncio.get_running_loop()
        # A refusal is not kept: whoever mends it wants to see so at once.
        loop.call_later(0.0 if failed else _KEPT, self._tags.pop, key, None)

    async def _ask(self, question: Question, image: ImageReference) -> str:
        held = await self._secrets(question.namespace, question.service_account, question.pull_secrets)
        credentials = held.for_image(image)
        loop = asyncio.get_running_loop()

        def resolve() -> str:
            repository = Repository(self._wire, self._registries, image, credentials, Deadline(_TAG_SECONDS))
            return repository.resolve(image.tag or "latest")

        try:
            return await loop.run_in_executor(self._threads, resolve)
        except ConflictError as error:
            if error.code != "scanner.registry.unauthorised" or not held.notes:
                raise
            hint = "; ".join((*held.notes, error.hint or ""))
            raise ConflictError(error.code, error.message, hint=hint, where=error.where) from error


def _error(error: BastideError) -> Tree:
    place = f"{error.where}: " if error.where else ""
    hint = f" ({error.hint})" if error.hint else ""
    permanent = not isinstance(error, UnavailableError)
    return {"error": {"code": error.code, "message": f"{place}{error.message}{hint}"[:500], "permanent": permanent}}


def _texts(value: object, where: str) -> tuple[str, ...]:
    most = MOST_IMAGES if where == "images" else _MOST_NAMES
    if not isinstance(value, list) or len(value) > most or not all(isinstance(one, str) for one in value):
        raise MalformedError("scanner.question", f"expected a list of at most {most} texts", where=where)
    return tuple(value)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise MalformedError("scanner.question", f"expected a name, seen {value!r:.80}", where=where)
    return value
