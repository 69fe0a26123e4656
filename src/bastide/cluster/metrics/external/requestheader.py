"""Who asks, as the aggregating API server says by headers, believed for its client certificate alone.

Source: Kubernetes docs, "Configure the Aggregation Layer" (request header authentication: CA, allowed names, headers,
published in the ConfigMap kube-system/extension-apiserver-authentication).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509.oid import NameOID

from bastide.errors import MalformedError, UntrustedError
from bastide.kube.client import Tree
from bastide.pods.tree import mapping, text

Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case, and values, as ASGI gives them."""

_MOST: Final = 512
_LONGEST: Final = 1024
_LARGEST_CA: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks: what a SubjectAccessReview is about.

    Attributes:
        name: never empty.
        uid: may be empty.
        groups: in the order given.
        extra: values by key in lower case, sorted by key.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeader:
    """Whom to believe, and which headers name the user; names in lower case.

    Attributes:
        authorities: of client certificates; none: nobody is believed.
        names: common names that are believed; none: any certificate of the authorities.
        user_headers, uid_headers, group_headers, extra_prefixes: names of headers.
    """

    authorities: tuple[x509.Certificate, ...] = ()
    names: tuple[str, ...] = ()
    user_headers: tuple[bytes, ...] = ()
    uid_headers: tuple[bytes, ...] = ()
    group_headers: tuple[bytes, ...] = ()
    extra_prefixes: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, tree: Tree) -> "RequestHeader":
        """Read the ConfigMap.

        Raises:
            MalformedError: ``cluster.metrics.requestheader``.
        """
        data = mapping(tree.get("data"))
        return cls(
            authorities=_authorities(text(data.get("requestheader-client-ca-file"))),
            names=_list(data, "requestheader-allowed-names"),
            user_headers=_headers(data, "requestheader-username-headers"),
            uid_headers=_headers(data, "requestheader-uid-headers"),
            group_headers=_headers(data, "requestheader-group-headers"),
            extra_prefixes=_headers(data, "requestheader-extra-headers-prefix"),
        )

    def user(self, shown: str, headers: Headers, now: datetime) -> User:
        """The user that a request is made for.

        Args:
            shown: the client's certificate (PEM); TLS has checked that one of the authorities made it. Empty: none.
            headers: of the request.
            now: to judge the certificate's time by: a connection may outlive it.

        Raises:
            UntrustedError: ``cluster.metrics.caller``: the request is of nobody whom we believe.
        """
        if not shown or not self.authorities:
            raise _stranger("expected the client certificate of the API server")
        certificate = x509.load_pem_x509_certificate(shown.encode())
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise _stranger("the client certificate is not valid now")
        if self.names and not _common_names(certificate) & set(self.names):
            raise _stranger("the client certificate is not of a name that may speak for users")
        given = [(name.lower(), value.decode("utf-8", "replace")) for name, value in headers]
        name = _first(given, self.user_headers)
        if not name:
            raise _stranger("expected a header that names the user")
        return User(
            name=name,
            uid=_first(given, self.uid_headers),
            groups=tuple(value for header in self.group_headers for key, value in given if key == header)[:_MOST],
            extra=_extra(given, self.extra_prefixes),
        )


def _first(given: list[tuple[bytes, str]], headers: tuple[bytes, ...]) -> str:
    values = (value for header in headers for key, value in given if key == header and value)
    return next(values, "")


def _extra(given: list[tuple[bytes, str]], prefixes: tuple[bytes, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for key, value in given:
        prefix = next((each for each in prefixes if key.startswith(each)), None)
        if prefix is not None and len(found) < _MOST:
            found.setdefault(unquote(key.removeprefix(prefix).decode("latin-1")).lower(), []).append(value)
    return tuple((key, tuple(values)) for key, values in sorted(found.items()))


def _common_names(certificate: x509.Certificate) -> set[str]:
    return {str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}


def _authorities(pem: str) -> tuple[x509.Certificate, ...]:
    if not pem.strip():
        return ()
    if len(pem) > _LARGEST_CA:
        raise _malformed("requestheader-client-ca-file", f"expected at most {_LARGEST_CA} characters")
    try:
        return tuple(x509.load_pem_x509_certificates(pem.encode()))
    except ValueError as error:
        raise _malformed("requestheader-client-ca-file", f"expected certificates in PEM: {error}") from None


def _headers(data: Mapping[str, object], key: str) -> tuple[bytes, ...]:
    return tuple(name.lower().encode() for name in _list(data, key))


def _list(data: Mapping[str, object], key: str) -> tuple[str, ...]:
    """A list of texts, written as JSON within a text; absent: none."""
    written = text(data.get(key))
    try:
        values = json.loads(written[:_LARGEST_CA]) if written else []
    except (ValueError, RecursionError):
        values = None
    if (
        not isinstance(values, list)
        or len(values) > _MOST
        or not all(isinstance(value, str) and 0 < len(value) <= _LONGEST for value in values)
    ):
        raise _malformed(key, "expected a list of texts in JSON")
    return tuple(values)


def _malformed(key: str, message: str) -> MalformedError:
    return MalformedError("cluster.metrics.requestheader", message, where=f"data.{key}")


def _stranger(message: str) -> UntrustedError:
    return UntrustedError("cluster.metrics.caller", message)
