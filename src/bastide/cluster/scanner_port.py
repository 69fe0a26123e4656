"""The resolver over the wire: ``POST /v1/resolve`` of the scanner, with our service account's token.

Request: ``{"namespace", "serviceAccount", "pullSecrets": [...], "images": [...], "dryRun"}``. Answer:
``{"images": {"<as asked>": {"digest": "sha256:..."} | {"error": {"code", "message", "permanent"}}}}``.
"""

import json
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bastide.cluster.resolving import BUDGET, Resolved, Unresolved
from bastide.errors import ConfigError, MalformedError, UnavailableError
from bastide.kube.access import ClusterAccess
from bastide.kube.client import read_tree
from bastide.kube.http import Http, Request
from bastide.pods.images import ImageReference
from bastide.pods.tree import at, mapping, text

RESOLVE_PATH: Final = "/v1/resolve"

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CODE: Final = re.compile(r"[a-z0-9.-]{1,80}")
_LONGEST_MESSAGE: Final = 500


class ScannerResolver:
    """Asks one scanner.

    Args:
        url: ``https://HOST[:PORT]``.
        ca_file: PEM certificates to trust; read again when it changes.
        token_file: a projected token for the scanner's audience, read for each request.

    Raises:
        ConfigError: ``admission.scanner.url``.
    """

    def __init__(self, url: str, *, ca_file: Path, token_file: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ConfigError("admission.scanner.url", f"expected https://HOST[:PORT], seen {url[:200]!r}")
        self._host, self._port = parts.hostname, parts.port or 443
        self._ca_file = ca_file
        self._token_file = token_file
        self._stamp = (0, 0)
        self._trust: ssl.SSLContext | None = None

    async def resolve(
        self,
        namespace: str,
        pull_secrets: Sequence[str],
        service_account: str,
        images: Sequence[ImageReference],
        *,
        dry_run: bool,
    ) -> Mapping[ImageReference, Resolved | Unresolved]:
        """See ``Resolver.resolve``.

        Raises:
            UnavailableError: ``kube.unavailable`` (it does not answer), ``admission.scanner.status``.
            ConfigError: ``admission.scanner.ca``, ``kube.token``.
            MalformedError: ``kube.answer.syntax``, ``kube.answer.size``.
        """
        asked = {
            "namespace": namespace,
            "serviceAccount": service_account,
            "pullSecrets": list(pull_secrets),
            "images": [image.build() for image in images],
            "dryRun": dry_run,
        }
        access = ClusterAccess(host=self._host, port=self._port, tls=self._tls(), token_file=self._token_file)
        request = Request(method="POST", path=RESOLVE_PATH, body=json.dumps(asked).encode())
        answer = await Http(access, seconds=BUDGET).ask(request)
        if answer.status != 200:
            message = f"the scanner answers with status {answer.status}{_said(answer.body)}"
            raise UnavailableError("admission.scanner.status", message, hint="see the scanner's log")
        found = mapping(read_tree(answer.body, RESOLVE_PATH).get("images"))
        return {image: _outcome(found[image.build()]) for image in images if image.build() in found}

    def _tls(self) -> ssl.SSLContext:
        try:
            status = self._ca_file.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if self._trust is None or stamp != self._stamp:
                self._trust = ssl.create_default_context(cafile=self._ca_file)
                self._stamp = stamp
        except (OSError, ssl.SSLError) as error:
            message = f"cannot read the scanner's certificate authority: {error}"
            raise ConfigError("admission.scanner.ca", message, where=str(self._ca_file)) from error
        return self._trust


def _said(body: bytes) -> str:
    try:
        message = text(at(read_tree(body, RESOLVE_PATH), ("error", "message")))
    except MalformedError:
        return ""
    return f": {message[:_LONGEST_MESSAGE]}" if message else ""


def _outcome(tree: object) -> Resolved | Unresolved:
    digest = text(at(tree, ("digest",)))
    if _DIGEST.fullmatch(digest):
        return Resolved(digest=digest)
    code, message = text(at(tree, ("error", "code"))), text(at(tree, ("error", "message")))
    if not _CODE.fullmatch(code):
        error = MalformedError("admission.scanner.answer", "expected a digest or an error from the scanner")
        return Unresolved(code=error.code, message=error.message)
    permanent = at(tree, ("error", "permanent")) is True
    return Unresolved(code=code, message=message[:_LONGEST_MESSAGE], permanent=permanent)
