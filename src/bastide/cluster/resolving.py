"""From tags to digests: the port towards the scanner, who knows registries and credentials."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bastide.errors import BastideError
from bastide.pods.images import ImageReference
from bastide.pods.tree import at, mapping, sequence, text

BUDGET: Final = 2.0
"""Seconds for all images of a pod together; the webhook's own time is 10."""

MOST_IMAGES: Final = 64
"""Of one pod, as the scanner has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The digest (``sha256:`` and 64 hex digits) that an image has now."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """Why there is none.

    Attributes:
        code: stable, such as ``scanner.registry.unknown``.
        message: for people.
        permanent: whether asking again is of no use.
    """

    code: str
    message: str
    permanent: bool = False


class Resolver(Protocol):
    """Asks registries, and has the images looked into that nobody has looked into yet."""

    async def resolve(
        self,
        namespace: str,
        pull_secrets: Sequence[str],
        service_account: str,
        images: Sequence[ImageReference],
        *,
        dry_run: bool,
    ) -> Mapping[ImageReference, Resolved | Unresolved]:
        """An answer for each image.

        Args:
            namespace: of the pod.
            pull_secrets: names of secrets in it.
            service_account: of the pod: its pull secrets count too.
            images: what to resolve; those that have a digest are only looked into.
            dry_run: look nothing up that is not read only: begin no inspection.

        Raises:
            BastideError: nothing could be asked.
        """
        ...


async def resolve_within(
    resolver: Resolver | None,
    images: Sequence[ImageReference],
    *,
    namespace: str,
    pull_secrets: Sequence[str],
    service_account: str,
    dry_run: bool,
    budget: float = BUDGET,
) -> Mapping[ImageReference, Resolved | Unresolved]:
    """Ask within the budget; every image has an answer, whatever goes wrong."""
    if not images:
        return {}
    if len(images) > MOST_IMAGES:
        message = f"expected at most {MOST_IMAGES} images by tag in one pod, seen {len(images)}"
        return dict.fromkeys(images, Unresolved(code="admission.resolve.many", message=message, permanent=True))
    if resolver is None:
        return dict.fromkeys(images, _NO_RESOLVER)
    try:
        async with asyncio.timeout(budget):
            found = await resolver.resolve(namespace, pull_secrets, service_account, images, dry_run=dry_run)
    except TimeoutError:
        late = Unresolved(code="admission.resolve.slow", message=f"no answer within {budget:g} s")
        return dict.fromkeys(images, late)
    except BastideError as error:
        return dict.fromkeys(images, Unresolved(code=error.code, message=error.message))
    missing = Unresolved(code="admission.resolve.missing", message="the scanner's answer leaves it out")
    return {image: found.get(image, missing) for image in images}


def pull_secrets(pod: object) -> tuple[str, ...]:
    """Names of the pod's pull secrets."""
    entries = sequence(at(pod, ("spec", "imagePullSecrets")))
    return tuple(name for entry in entries if (name := text(at(entry, ("name",)))))


def service_account(pod: object) -> str:
    """The pod's service account, by the field's old name too; ``default`` where it names none."""
    spec = mapping(at(pod, ("spec",)))
    return text(spec.get("serviceAccountName")) or text(spec.get("serviceAccount")) or "default"


_NO_RESOLVER: Final = Unresolved(
    code="admission.resolve.none",
    message="no scanner is configured that could find its digest: name the image by digest",
    permanent=True,
)
