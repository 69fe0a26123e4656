"""Sessions with a shared database, and what its errors mean to us.

Every session sets ``synchronous_commit=on`` itself, whatever the default of server, role or URL is.

Source: PostgreSQL documentation, "Asynchronous Commit" and "Client Connection Defaults".
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.errors import BastideError, ConfigError, ConflictError, UnavailableError

MOST_CONNECTIONS = 8
"""Of one replica."""

CONNECT_SECONDS = 5.0
"""For a connection to be there, be it a new one or one that others give back."""

_ANSWER_SECONDS = 10.0
_SESSION = {
    "application_name": "bastide",
    "synchronous_commit": "on",
    "statement_timeout": "8000",
    "idle_in_transaction_session_timeout": "60000",
}
_DURABLE = ("on", "remote_apply")
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_SETTINGS = (asyncpg.ClientConfigurationError, asyncpg.CantChangeRuntimeParamError, asyncpg.UndefinedObjectError)
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
"""A timeout is an OSError."""


async def connect(url: DatabaseUrl) -> asyncpg.Pool:
    """A bounded pool of sessions.

    Raises:
        As ``opening``.
    """
    with opening(url):
        return await asyncpg.create_pool(
            url.dsn,
            min_size=0,
            max_size=MOST_CONNECTIONS,
            timeout=CONNECT_SECONDS,
            command_timeout=_ANSWER_SECONDS,
            server_settings=_SESSION,
            init=_check_durable,
            reset=_nothing_to_reset,
        )


async def _check_durable(connection: asyncpg.Connection) -> None:
    """A pooler between us and the server may drop what a session asks for."""
    seen = await connection.fetchval("SHOW synchronous_commit")
    if seen not in _DURABLE:
        message = f"expected a session with synchronous_commit=on, seen {seen}"
        raise ConfigError("store.database.durable", message, hint="connect without a pooler")


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Sessions are never changed, so giving one back needs no round trip."""


@contextmanager
def opening(url: DatabaseUrl) -> Iterator[None]:
    """Turn what goes wrong at the start into words for the operator.

    Raises:
        ConfigError: ``store.database.access`` (user, password, no such database, rights), ``store.database.url`` (a
            setting in the URL that nobody knows), ``store.database.durable``.
        UnavailableError: ``store.unavailable``.
    """
    try:
        yield
    except BastideError:
        raise
    except _REFUSED as error:
        hint = "look at user, password and database; the role must own the database's tables, or be granted their use"
        raise ConfigError("store.database.access", url.told(error), hint=hint, where=url.shown) from error
    except _SETTINGS as error:
        what = f"a setting in the URL is not taken: {url.told(error)}"
        raise ConfigError("store.database.url", what, where=url.shown) from None  # asyncpg shows parts of the URL
    except _FAILURES as error:
        hint = "is it running, and are there the files that sslrootcert, sslcert and sslkey name?"
        what = f"cannot open it: {url.told(error)}"
        raise UnavailableError("store.unavailable", what, hint=hint, where=url.shown) from error
    except ValueError as error:
        what = f"a setting in the URL cannot be read: {url.told(error)}"
        raise ConfigError("store.database.url", what, where=url.shown) from None


@contextmanager
def guarded() -> Iterator[None]:
    """Turn the database's errors into ours; what they say is for the log, not for clients.

    Raises:
        ConflictError: ``store.conflict``.
        UnavailableError: ``store.unavailable``.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise ConflictError("store.conflict", "the store has that already") from error
    except _FAILURES as error:
        what = f"the shared database does not take it or does not answer ({type(error).__name__})"
        raise UnavailableError("store.unavailable", what, hint="try again") from error
