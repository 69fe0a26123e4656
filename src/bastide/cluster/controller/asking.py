"""What the controller asks the scanner: once for all pods that would ask the same.

Thousands of pods of one Deployment name the same images with the same rights; each of them asking by itself would be
thousands of connections a minute for answers that are known.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from bastide.cluster.gate.images import PodImage
from bastide.cluster.resolving import Resolved, Resolver, Unresolved, pull_secrets, resolve_within, service_account
from bastide.kube.client import Tree
from bastide.pods.images import ImageReference
from bastide.pods.tree import at, text

MOST_REMEMBERED: Final = 8192
"""Answers; those given the longest ago go first."""

_Rights = tuple[str, tuple[str, ...], str]


class Asking:
    """Asks for images in the name of pods.

    Args:
        resolver: the scanner; None: nobody can be asked.
        again: seconds for which an answer, a refusal too, stands for all who would ask the same.
        clock: seconds that never go back.
    """

    def __init__(self, resolver: Resolver | None, *, again: float, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._again = again
        self._clock = clock
        self._answers: OrderedDict[tuple[_Rights, ImageReference], tuple[float, Resolved | Unresolved]] = OrderedDict()

    @property
    def anybody(self) -> bool:
        """Whether there is somebody to ask."""
        return self._resolver is not None

    async def ask(self, pod: Tree, images: Sequence[PodImage]) -> tuple[tuple[str, Unresolved], ...]:
        """Have images of a pod looked into; those for which that is not possible, with the reason."""
        namespace = text(at(pod, ("metadata", "namespace")))
        rights = (namespace, pull_secrets(pod), service_account(pod))
        wanted = tuple(dict.fromkeys(one.image for one in images))
        await self._renew(rights, tuple(image for image in wanted if not self._is_known(rights, image)))
        found = ((image.build(), self._answers[rights, image][1]) for image in wanted)
        return tuple((image, answer) for image, answer in found if isinstance(answer, Unresolved))

    def _is_known(self, rights: _Rights, image: ImageReference) -> bool:
        known = self._answers.get((rights, image))
        return known is not None and self._clock() < known[0] + self._again

    async def _renew(self, rights: _Rights, images: Sequence[ImageReference]) -> None:
        namespace, secrets, account = rights
        answers = await resolve_within(
            self._resolver,
            images,
            namespace=namespace,
            pull_secrets=secrets,
            service_account=account,
            dry_run=False,
        )
        for image, answer in answers.items():
            self._answers[rights, image] = (self._clock(), answer)
            self._answers.move_to_end((rights, image))
        while len(self._answers) > MOST_REMEMBERED:
            self._answers.popitem(last=False)
