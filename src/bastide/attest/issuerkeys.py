"""Where the keys of administrators' issuers come from: a file, or the issuer's discovery. Never a token."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import SystemRandom

from bastide.attest.bearer import check_key_set, usable_keys
from bastide.attest.files import LARGEST_FILE, WatchedFile
from bastide.attest.oidc import home_of
from bastide.errors import BastideError, ConfigError, UnavailableError
from bastide.token.json_text import Json, read_json

REFRESH = timedelta(hours=1)
"""Keys are fetched anew after half of it to all of it."""

OLDEST = timedelta(days=1)
"""Keys of an issuer that has not answered for so long count no more."""

ONCE = timedelta(minutes=1)
"""A token with an unknown key makes us ask its issuer at most once in this time."""

_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=30), timedelta(minutes=10)
_MOST_DOUBLINGS = 6
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_CHANCE = SystemRandom()


class FileKeys:
    """The key set in a file, read again when the file changes; one that cannot be used is told of and passed over.

    Raises:
        ConfigError: ``file.*``, ``attest.bearer.keys``.
        MalformedError: those of ``read_json``.
    """

    def __init__(self, file: Path) -> None:
        self._watched = WatchedFile(file)
        self._keys: Mapping[str, Json] = {}
        self.refresh(_EARLIEST)

    def at_hand(self, now: datetime) -> Mapping[str, Json]:  # noqa: ARG002 - a file does not age
        """See ``KeySource``."""
        return self._keys

    def refresh(self, now: datetime, *, wanted: bool = False) -> None:  # noqa: ARG002 - looking costs nothing
        """See ``KeySource``."""
        raw = self._watched.changed()
        if raw is None:
            return
        keys = read_json(raw, largest=LARGEST_FILE)
        if not isinstance(keys, dict):
            raise ConfigError("attest.bearer.keys", 'expected {"keys": [...]}', where=str(self._watched.file))
        check_key_set(keys)
        self._keys = keys


class DiscoveredKeys:
    """The key set that an issuer's discovery leads to; the last good one stays in use for ``OLDEST``.

    Args:
        issuer: https URL, as tokens have it in ``iss``.
        fetch: gives the key set of an issuer; blocks; raises BastideError (see ``IssuerClient.key_set``).
        chance: a random number from 0 to 1, so that replicas do not ask all at once.

    Raises:
        ConfigError: ``token.issuer.url``.
    """

    def __init__(
        self, issuer: str, fetch: Callable[[str], bytes], *, chance: Callable[[], float] = _CHANCE.random
    ) -> None:
        home_of(issuer)
        self._issuer, self._fetch, self._chance = issuer, fetch, chance
        self._held: tuple[Mapping[str, Json], datetime] | None = None
        self._due = self._asked = _EARLIEST
        self._failures = 0

    def at_hand(self, now: datetime) -> Mapping[str, Json]:
        """See ``KeySource``."""
        held = self._held
        if held is None or now - held[1] > OLDEST:
            message = "the keys of this token's issuer cannot be had now"
            raise UnavailableError("attest.issuer-keys.unavailable", message)
        return held[0]

    def refresh(self, now: datetime, *, wanted: bool = False) -> None:
        """See ``KeySource``."""
        if now < self._due and not (wanted and now >= self._asked + ONCE):
            return
        self._asked = now
        try:
            keys = usable_keys(read_json(self._fetch(self._issuer), largest=LARGEST_FILE))
        except BastideError:
            pause = min(_FIRST_RETRY * (1 << min(self._failures, _MOST_DOUBLINGS)), _LAST_RETRY)
            self._failures += 1
            self._due = now + self._sooner(pause)
            raise
        self._held, self._failures = (keys, now), 0
        self._due = now + self._sooner(REFRESH)

    def _sooner(self, pause: timedelta) -> timedelta:
        return pause * (1 - self._chance() / 2)
