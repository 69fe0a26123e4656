"""The URL of a shared database, which holds a password and is never shown whole.

Source: PostgreSQL documentation, "Connection URIs" (libpq).
"""

import re
from dataclasses import dataclass, field

from bastide.errors import ConfigError

_LONGEST = 2048
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.%-]*)(?::[0-9]{1,5})?"
_URL = re.compile(
    rf"(?:postgresql|postgres)://(?:[^@/?#\s]*@)?(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<path>/[^@/?#\s]*)?(?:\?[^@#\s]*)?",
    re.ASCII,
)
"""Narrow where a password with a sign that had to be escaped would make another part of the URL begin too early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """Where the shared database is.

    Attributes:
        dsn: as given: hosts, user, password, ``sslmode`` and other settings of libpq.
        shown: hosts and database only, for messages.
    """

    dsn: str = field(repr=False)
    shown: str

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
        return cls(dsn=text, shown=f"postgresql://{match['hosts']}{match['path'] or ''}")
