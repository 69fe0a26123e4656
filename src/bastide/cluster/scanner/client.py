"""Pulling from one repository by OCI's distribution API, every byte checked against its digest.

Source: OCI distribution-spec v1.1 "Pull", "Listing Referrers", "Referrers Tag Schema"; Docker Registry HTTP API v2.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urljoin, urlsplit

from bastide.cluster.scanner.authorise import Authoriser, unauthorised
from bastide.cluster.scanner.credentials import MOST_CREDENTIALS, Credentials
from bastide.cluster.scanner.http import Deadline, Question, Reply, Wire
from bastide.cluster.scanner.manifest import (
    ACCEPT,
    LARGEST_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    parse_document,
)
from bastide.cluster.scanner.registries import Origin, Registries
from bastide.enclave.layers import check_digest_form
from bastide.errors import ConflictError, MalformedError, PolicyError, UnavailableError
from bastide.pods.images import ImageReference

MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_DENIED: Final = (401, 403)
_BUSY: Final = (408, 425, 429)
_URL_CHARACTERS: Final = frozenset(map(chr, range(0x21, 0x7F)))


class Repository:
    """One repository of a registry.

    Args:
        wire: connections.
        registries: the list of those that may be asked.
        image: whose registry and repository; tag and digest do not matter.
        credentials: that may be shown to that registry.
        deadline: of everything that is asked.

    Raises:
        PolicyError: ``scanner.registry.unlisted``.
    """

    def __init__(
        self,
        wire: Wire,
        registries: Registries,
        image: ImageReference,
        credentials: Sequence[Credentials],
        deadline: Deadline,
    ) -> None:
        self._wire = wire
        self._registries = registries
        self._registry = registries.find(image)
        self._repository = image.repository
        self._anonymous = not credentials
        self._deadline = deadline
        self._authoriser = Authoriser(wire, self._registry, image.repository, credentials)

    @property
    def name(self) -> str:
        """``registry/path``."""
        return f"{self._registry.name}/{self._repository}"

    def resolve(self, tag: str) -> str:
        """The digest that a tag means now: that of the bytes which the registry serves.

        Raises:
            MalformedError: ``scanner.digest.header``: the registry says another digest than that of its bytes; those
                of ``parse_document``.
            ConflictError, PolicyError, UnavailableError: as ``document``.
        """
        raw, content_type, stated = self._document(tag)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if stated and stated != digest:
            message = f"the registry says {stated[:100]!r} and serves {digest}"
            raise MalformedError("scanner.digest.header", message, where=f"{self.name}:{tag}")
        parse_document(raw, content_type)
        return digest

    def document(self, digest: str) -> tuple[bytes, Index | Manifest]:
        """A manifest or index by its digest.

        Raises:
            MalformedError: ``scanner.digest.mismatch``, ``scanner.http.size``, ``scanner.registry.content-type`` (the
                registry says another type than the document), and those of ``parse_document``.
            ConflictError: ``scanner.registry.missing``, ``scanner.registry.unauthorised``,
                ``scanner.registry.refused``.
            PolicyError: ``scanner.registry.realm``, ``scanner.registry.redirect``, ``scanner.address.closed``.
            UnavailableError: ``scanner.registry.busy``, and those of ``Wire.get``.
        """
        raw, content_type, _ = self._document(digest)
        where = f"{self.name}@{digest}"
        check_digest(raw, digest, where)
        document = parse_document(raw)
        try:
            parse_document(raw, content_type)
        except MalformedError as error:
            # Of what the digest covers nothing is wrong: another registry may serve the same and say so rightly.
            raise MalformedError("scanner.registry.content-type", error.message, where=where) from None
        return raw, document

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The content of a blob in pieces; after the last one, size and digest were right. Errors as ``document``."""
        where = f"{self.name}@{descriptor.digest}"
        algorithm, _, expected = descriptor.digest.partition(":")
        state, taken = hashlib.new(algorithm), 0
        with self._get(f"/v2/{self._repository}/blobs/{descriptor.digest}", "*/*") as reply:
            for piece in reply.pieces(descriptor.size):
                state.update(piece)
                taken += len(piece)
                yield piece
        if taken != descriptor.size or state.hexdigest() != expected:
            raise _mismatch(f"{algorithm}:{state.hexdigest()} of {taken} bytes", descriptor.digest, where)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """What refers to an image, by the API for it or else by the tag that older registries keep; errors as
        ``document``. Nothing of this is covered by a digest that anybody pinned.
        """
        try:
            raw = self._body(f"/v2/{self._repository}/referrers/{digest}", OCI_INDEX)
        except ConflictError as error:
            if error.code not in ("scanner.registry.missing", "scanner.registry.refused"):
                raise
            try:
                raw = self._body(f"/v2/{self._repository}/manifests/{digest.replace(':', '-')}", OCI_INDEX)
            except ConflictError as missing:
                if missing.code != "scanner.registry.missing":
                    raise
                return ()
        found = parse_document(raw)
        if not isinstance(found, Index):
            raise MalformedError("scanner.manifest.type", "expected an index of referrers, seen a manifest")
        return found.manifests

    def _document(self, reference: str) -> tuple[bytes, str, str]:
        with self._get(f"/v2/{self._repository}/manifests/{reference}", ACCEPT) as reply:
            raw = reply.body(LARGEST_MANIFEST)
            return raw, reply.header("Content-Type"), reply.header("Docker-Content-Digest")

    def _body(self, target: str, accept: str) -> bytes:
        with self._get(target, accept) as reply:
            return reply.body(LARGEST_MANIFEST)

    @contextmanager
    def _get(self, target: str, accept: str) -> Iterator[Reply]:
        """A good answer, after who we are was asked and redirects were followed."""
        location, fresh = "", False
        challenges: list[str] = []
        for _ in range(MOST_CREDENTIALS + 2):
            question = self._question(target, accept)
            with self._wire.get(question, self._deadline) as reply:
                if reply.status in _REDIRECTS:
                    location = reply.header("Location")
                    break
                if reply.status not in _DENIED:
                    self._check_status(reply)
                    yield reply
                    return
                # A 403 has no challenge: the next credentials are tried where the first ones were.
                challenges = reply.headers("WWW-Authenticate") or challenges
            sent = "Authorization" in question.headers
            if not self._authoriser.renew(challenges, self._deadline, refused=fresh and sent):
                break
            fresh = True
        if not location:
            raise unauthorised(self._registry, self._repository, anonymous=self._anonymous)
        with self._redirected(question, location, accept) as reply:
            yield reply

    @contextmanager
    def _redirected(self, question: Question, location: str, accept: str) -> Iterator[Reply]:
        """Follow redirects; from the first one on nobody is told who we are."""
        for _ in range(MOST_REDIRECTS):
            question = self._redirect(question, location, accept)
            with self._wire.get(question, self._deadline) as reply:
                if reply.status not in _REDIRECTS:
                    self._check_status(reply)
                    yield reply
                    return
                location = reply.header("Location")
        message = f"expected at most {MOST_REDIRECTS} redirects, seen more"
        raise PolicyError("scanner.registry.redirect", message, where=self.name)

    def _question(self, target: str, accept: str) -> Question:
        header = self._authoriser.header
        headers = {"Accept": accept, **({"Authorization": header} if header else {})}
        return Question(origin=self._registry.origin, target=target, headers=headers)

    def _redirect(self, before: Question, location: str, accept: str) -> Question:
        ours = self._registry.origin
        try:
            base = f"{before.origin.scheme}://{before.origin.authority}{before.target}"
            parts = urlsplit(urljoin(base, location))
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise self._bad_redirect(before, location) from None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        origin = Origin(
            scheme=parts.scheme,
            host=host,
            port=port or (443 if parts.scheme == "https" else 80),
            # Only a registry of the own network leads there, and only to hosts that are listed as such.
            private=ours.private and self._registries.is_private(host),
        )
        back_home = (origin.scheme, origin.host, origin.port) == (ours.scheme, ours.host, ours.port)
        if parts.scheme != "https" and not back_home:
            message = f"expected a redirect to an https URL, seen {location[:100]!r}"
            raise PolicyError("scanner.registry.redirect", message, where=before.where)
        if not host or parts.username is not None or not set(target) <= _URL_CHARACTERS:
            raise self._bad_redirect(before, location)
        return Question(origin=origin, target=target, headers={"Accept": accept})

    @staticmethod
    def _bad_redirect(before: Question, location: str) -> PolicyError:
        message = f"expected a redirect to a URL without a user, seen {location[:100]!r}"
        return PolicyError("scanner.registry.redirect", message, where=before.where)

    def _check_status(self, reply: Reply) -> None:
        where = reply.question.where
        if reply.status == 200:
            return
        if reply.status == 404:
            hint = "check name and tag; registries also say so of private images"
            message = f"{self._registry.name} has no such thing"
            raise ConflictError("scanner.registry.missing", message, hint=hint, where=where)
        if reply.status in _DENIED:
            raise unauthorised(self._registry, self._repository, anonymous=self._anonymous)
        message = f"expected status 200, seen {reply.status}"
        if reply.status in _BUSY or reply.status >= 500:
            limited = "it limits how often it is asked" if reply.status == 429 else None
            raise UnavailableError("scanner.registry.busy", message, hint=limited, where=where)
        raise ConflictError("scanner.registry.refused", message, where=where)


def check_digest(raw: bytes, digest: str, where: str) -> None:
    """Whether content is what its digest says.

    Raises:
        MalformedError: ``scanner.digest.mismatch``, ``enclave.image.digest-form``.
    """
    algorithm = check_digest_form(digest, where).partition(":")[0]
    seen = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
    if seen != digest:
        raise _mismatch(seen, digest, where)


def _mismatch(seen: str, expected: str, where: str) -> MalformedError:
    hint = "the registry serves something else than what was asked for: do not trust it"
    return MalformedError(
        "scanner.digest.mismatch", f"expected {expected}, the registry serves {seen}", hint=hint, where=where
    )
