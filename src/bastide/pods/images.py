"""Container image references: which image a container names, and whether that name can change its meaning.

Source: distribution/reference v0.6 (grammar in its package comment; Docker Hub defaults as ``ParseNormalizedNamed``
applies them), OCI image-spec v1.1 "Digests".
"""

import re
from dataclasses import dataclass

from bastide.errors import MalformedError

DOCKER_HUB = "docker.io"

_LONGEST_REFERENCE = 1024
_LONGEST_PATH = 255
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::\d+)?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", re.ASCII)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HINT = "write registry/name:tag or, better, registry/name@sha256:<64 hex digits>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """A parsed image reference, with Docker Hub's defaults written out.

    Attributes:
        registry: host, with port where one is given; ``docker.io`` where the text names none.
        repository: path within the registry; ``library/`` is put before Docker Hub's one-word names.
        tag: None where the text has none. A tag is mutable: its owner can move it to other content.
        digest: ``algorithm:hex``, None where the text has none. Names the content itself.

    Source: distribution/reference v0.6.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def is_pinned(self) -> bool:
        """Whether the reference names content (by digest) and not a tag that can be moved."""
        return self.digest is not None

    @classmethod
    def parse(cls, text: str) -> "ImageReference":
        """Read ``[registry/]repository[:tag][@digest]``, at most 1024 characters.

        Raises:
            MalformedError: ``image.space`` (white space: often a YAML slip such as ``name: 1.0``),
                ``image.placeholder`` (an unfilled template), ``image.syntax``, ``image.tag``, ``image.digest``.
        """
        _refuse_slips(text)
        name, at, digest = text.partition("@")
        slash = name.rfind("/")
        colon = name.find(":", slash + 1)
        tag = name[colon + 1 :] if colon >= 0 else None
        registry, repository = _split_registry(name[:colon] if colon >= 0 else name, text)
        if tag is not None and not _TAG.fullmatch(tag):
            raise MalformedError("image.tag", f"{tag!r} is not an image tag (in {text!r})", hint=_HINT)
        if at:
            _check_digest(digest, text)
        return cls(registry=registry, repository=repository, tag=tag, digest=digest if at else None)

    def build(self) -> str:
        """The full text, inverse of :meth:`parse`: ``docker.io/library/ubuntu:20.04``."""
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _refuse_slips(text: str) -> None:
    """The two slips that published manifests really have get their own, clearer error."""
    if len(text) > _LONGEST_REFERENCE:
        raise MalformedError(
            "image.syntax", f"image reference of {len(text)} characters, at most {_LONGEST_REFERENCE}", hint=_HINT
        )
    if re.search(r"[{}<>$]", text):
        raise MalformedError(
            "image.placeholder",
            f"{text!r} is a placeholder, not an image reference",
            hint="fill in the template (helm template, envsubst, ...) and give the result",
        )
    if re.search(r"\s", text):
        squeezed = "".join(text.split())
        raise MalformedError(
            "image.space", f"image reference {text!r} contains white space", hint=f'write "{squeezed}", without spaces'
        )


def _split_registry(name: str, text: str) -> tuple[str, str]:
    """A first part is a registry when it looks like a host: has a dot, a colon or capitals, or is ``localhost``."""
    first, slash, rest = name.partition("/")
    if slash and (re.search(r"[.:A-Z]", first) or first == "localhost"):
        registry, path = first, rest
    else:
        registry, path = DOCKER_HUB, name if slash else f"library/{name}"
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    components_are_right = all(_COMPONENT.fullmatch(part) for part in path.split("/"))
    if not _DOMAIN.fullmatch(registry) or not components_are_right or len(path) > _LONGEST_PATH:
        raise MalformedError(
            "image.syntax",
            f"{text!r} is not an image reference (lower-case path parts of letters, digits and . _ - are expected)",
            hint=_HINT,
        )
    if not slash and _IDENTIFIER.fullmatch(name):
        raise MalformedError("image.syntax", f"{text!r} is a bare image identifier, not a reference", hint=_HINT)
    return registry, path


def _check_digest(digest: str, text: str) -> None:
    algorithm, _, value = digest.partition(":")
    if len(value) != _DIGEST_LENGTHS.get(algorithm) or not re.fullmatch(r"[0-9a-f]+", value):
        raise MalformedError(
            "image.digest",
            f"{digest!r} is not a digest (in {text!r}): expected sha256 with 64, sha384 with 96 or sha512 with 128"
            " lower-case hex digits",
            hint=_HINT,
        )
