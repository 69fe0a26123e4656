"""Which images a pod brings to its node: those of all its containers, and those that it mounts as volumes.

Source: Kubernetes "Containers" (init, sidecar and ephemeral containers), "Volumes" (``image``; KEP-4639: the kubelet
pulls ``volumes[].image.reference`` and mounts its files, which a container may start).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference
from bastide.pods.lint_containers import image_of
from bastide.pods.request import ContainerAsk, SgxRequest
from bastide.pods.tree import Path, at, mapping, sequence, text

_LISTS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodImage:
    """One place of a pod that names an image.

    Attributes:
        image: as written, with defaults.
        path: of the field that names it, from the pod.
        name: of the container or volume.
        ask: the container that runs it, and what it asks of SGX; None for a volume.
    """

    image: ImageReference
    path: Path
    name: str
    ask: ContainerAsk | None = None

    @property
    def holds_device(self) -> bool:
        """Whether it is the image of a container that gets SGX devices."""
        return self.ask is not None and self.ask.wants_sgx

    @property
    def where(self) -> str:
        """For people: ``container 'app'``."""
        return f"{'image volume' if self.ask is None else self.ask.role} {self.name!r}"

    @property
    def place(self) -> tuple[object, str]:
        """Kind and name of what names it: the same before and after a change of the pod."""
        return self.path[1], self.name


def pod_images(pod: object, request: SgxRequest) -> tuple[PodImage, ...]:
    """The images of all containers, then those of volumes.

    Args:
        pod: with ``spec``.
        request: what it asks of SGX.

    Raises:
        MalformedError: ``image.missing`` and those of ``ImageReference.parse``, with container or volume as ``where``.
    """
    return (
        *(_of(at(pod, ask.path), (*ask.path, "image"), ask.name, ask) for ask in request.containers),
        *(_of(at(pod, path[:-1]), path, name, None) for path, name in _image_volumes(pod)),
    )


def image_fields(pod: object) -> Iterator[tuple[Path, str]]:
    """Every field that names an image, with its text as written."""
    for kind in _LISTS:
        for index, container in enumerate(sequence(at(pod, ("spec", kind)))):
            yield ("spec", kind, index, "image"), text(at(container, ("image",)))
    for path, _ in _image_volumes(pod):
        yield path, text(at(pod, path))


def _image_volumes(pod: object) -> Iterator[tuple[Path, str]]:
    for index, volume in enumerate(sequence(at(pod, ("spec", "volumes")))):
        if mapping(volume).get("image") is not None:
            yield ("spec", "volumes", index, "image", "reference"), text(at(volume, ("name",)))


def _of(holder: object, path: Path, name: str, ask: ContainerAsk | None) -> PodImage:
    try:
        image = image_of({"image": at(holder, path[-1:])})
    except MalformedError as error:
        where = f"{'image volume' if ask is None else ask.role} {name!r}"
        raise MalformedError(error.code, error.message, hint=error.hint, where=where) from None
    return PodImage(image=image, path=path, name=name, ask=ask)
