"""From the path on the wire to a tenant and what is asked of it.

The bytes on the wire are matched as they are, never decoded: a path with an escape, an empty segment or a dot segment
is refused, so that no proxy and no router can read another tenant into it than we do.
"""

import re
from collections.abc import Container
from urllib.parse import urlsplit

from bastide.attest.http.errors import ApiError
from bastide.attest.tenants import DEFAULT_TENANT

_PLAIN = re.compile(rb"(?:/[A-Za-z0-9._~:@!$&'()*+,;=-]+)*/?")
_DOTS = (".", "..")


def base_of(public_url: str) -> str:
    """The path of the public URL, under which the default tenant is found; empty for none."""
    return urlsplit(public_url).path.rstrip("/")


def resolve(raw_path: bytes, *, base: str, tenants: Container[str]) -> tuple[str, str]:
    """The tenant and the rest of the path, which begins with a slash.

    Args:
        raw_path: as on the wire, without the query.
        base: path of the public URL.
        tenants: names of all but the default tenant.

    Raises:
        ApiError: 400 ``InvalidPath``; 404 outside of ``base``.
    """
    path = plain_path(raw_path)
    if path != base and not path.startswith(f"{base}/"):
        raise ApiError(404, "NotFound", "there is nothing at this path")
    rest = path[len(base) :] or "/"
    first, _, after = rest[1:].partition("/")
    return (first, f"/{after}") if first in tenants else (DEFAULT_TENANT, rest)


def plain_path(raw_path: bytes) -> str:
    """The path as text.

    Raises:
        ApiError: 400 ``InvalidPath``.
    """
    text = raw_path.decode("ascii", "replace")
    if not _PLAIN.fullmatch(raw_path) or any(segment in _DOTS for segment in text.split("/")):
        message = "expected a path without escapes, empty segments and dot segments"
        raise ApiError(400, "InvalidPath", message)
    return text
