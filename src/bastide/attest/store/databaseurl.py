"""The URL of a shared database, which holds a password and is never shown whole.

Source: PostgreSQL documentation, "Connection URIs" (libpq).
"""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from bastide.errors import ConfigError

_LONGEST = 2048
_SECRET_SETTINGS = ("password", "sslpassword")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.%-]*)(?::[0-9]{1,5})?"
_URL = re.compile(
    rf"(?:postgresql|postgres)://(?:(?P<user>[^@/?#\s]*)@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?P<path>/[^@/?#\s]*)?(?:\?(?P<settings>[^@#\s]*))?",
    re.ASCII,
)
"""Narrow where a password with a sign that had to be escaped would make another part of the URL begin too early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """Where the shared database is.

    Attributes:
        dsn: as given: hosts, user, password, ``sslmode`` and other settings of libpq.
        secrets: passwords in it, as given and decoded.
        shown: hosts and database only, for messages.
    """

    dsn: str = field(repr=False)
    secrets: frozenset[str] = field(repr=False)
    shown: str

    def told(self, error: BaseException) -> str:
        """What ``error`` says, if it says no password."""
        text = str(error) or type(error).__name__
        return type(error).__name__ if any(secret in text for secret in self.secrets) else text

    @classmethod
    def parse(cls, text: str) -> "DatabaseUrl":
        """Read ``postgresql://USER@HOST:PORT/NAME?sslmode=verify-full``; several hosts are separated by commas.

        Raises:
            ConfigError: ``store.database.url``; no part of the text is in its message, since any may be a password.
        """
        match = _URL.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise ConfigError(
                "store.database.url",
                "expected postgresql://USER@HOST:PORT/NAME (what was given is not shown: it may hold a password)",
                hint="in user and password write @ : / ? # as %40 %3A %2F %3F %23; or use PGPASSFILE",
            )
        _, _, password = (match["user"] or "").partition(":")
        settings = parse_qs(match["settings"] or "", keep_blank_values=True)
        secrets = {password, *(value for name in _SECRET_SETTINGS for value in settings.get(name, ()))}
        return cls(
            dsn=text,
            secrets=frozenset(filter(None, secrets | set(map(unquote, secrets)))),
            shown=f"postgresql://{match['hosts']}{match['path'] or ''}",
        )
