"""The one error tree.

Every error carries a stable ``code`` (``room.thing.defect``) for programs, a message for people, and where it
helps a ``hint`` (what to do next) and ``where`` (a field, a file with line, an offset). Exit code, HTTP status and
gRPC status are one table each at the edge that needs them; here is only the tree.
"""


class BastideError(Exception):
    """Root of all errors that Bastide raises on purpose.

    Args:
        code: stable identifier such as ``quote.signature.length``; documented, never reworded.
        message: one sentence that names what was expected and what was seen.
        hint: what to do next.
        where: field path, ``file:line`` or byte offset.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} [{self.code}]"


class MalformedError(BastideError):
    """Input that is not what its format says: exit 2, HTTP 400."""


class UntrustedError(BastideError):
    """Input that is well formed and not to be believed: exit 3, HTTP 400."""


class PolicyError(BastideError):
    """A rule that people wrote says no: exit 3, HTTP 403 (400 on the attestation API)."""


class ConfigError(BastideError):
    """Our own configuration or command line is wrong: exit 2."""


class UnavailableError(BastideError):
    """Something that we need does not answer now: exit 1, HTTP 503."""


class ConflictError(BastideError):
    """The state is not the one the request assumes: exit 1, HTTP 409."""
