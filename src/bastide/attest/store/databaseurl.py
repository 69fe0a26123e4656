"""The URL of a shared database, which holds a password and is never shown whole.

Source: PostgreSQL documentation, "Connection URIs" (libpq).
"""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bastide.errors import ConfigError

SCHEMES = ("postgresql", "postgres")
_LONGEST = 2048


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
        try:
            split = urlsplit(text)
        except ValueError:
            split = urlsplit("")
        ok = len(text) <= _LONGEST and text.isascii() and text.isprintable() and " " not in text
        if not ok or split.scheme not in SCHEMES or split.netloc.count("@") > 1 or split.fragment:
            raise ConfigError(
                "store.database.url",
                "expected postgresql://USER@HOST:PORT/NAME (what was given is not shown: it may hold a password)",
                hint="in user and password write @ : / ? # as %40 %3A %2F %3F %23; or use PGPASSFILE",
            )
        hosts = split.netloc.rpartition("@")[2]
        return cls(dsn=text, shown=f"postgresql://{hosts}{split.path}")
