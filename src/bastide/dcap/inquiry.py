"""Asking one question after the other until the first "no", and keeping every answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bastide.checks import Check
from bastide.dcap.certificate import Signatures
from bastide.dcap.status import QvlStatus
from bastide.errors import MalformedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """How one of the four calls of Intel's library ended.

    Attributes:
        status: the library's word; OK when every answer was yes.
        checks: the questions in the order asked; after a "no" there is none.
    """

    status: QvlStatus
    checks: tuple[Check, ...]


class Inquiry:
    """Collects the checks of one call; the first that fails ends the call with its status.

    Args:
        source: document that asks for these checks.
        before: checks that were answered earlier and belong in front.
        signatures: where answers about signatures of certificates are kept.

    Attributes:
        signatures: the same.
    """

    __slots__ = ("_checks", "_source", "signatures")

    def __init__(self, source: str, before: tuple[Check, ...] = (), signatures: Signatures | None = None) -> None:
        self._source = source
        self._checks = list(before)
        self.signatures = signatures or Signatures()

    def check(
        self, name: str, ok: bool, otherwise: QvlStatus, *, expected: str, seen: str = "", hint: str = ""
    ) -> None:
        """Record an answer; a "no" ends the call with status ``otherwise``."""
        self._checks.append(
            Check(name=name, ok=ok, expected=expected, seen=seen, hint="" if ok else hint, source=self._source)
        )
        if not ok:
            raise _EndError(otherwise)

    def parsed(self, name: str, value: T | MalformedError, otherwise: QvlStatus, *, expected: str) -> T:
        """The value, if there is one; a parse error ends the call with status ``otherwise``."""
        if isinstance(value, MalformedError):
            self.check(name, False, otherwise, expected=expected, seen=str(value), hint=value.hint or "")
            raise _EndError(otherwise)
        self.check(name, True, otherwise, expected=expected, seen="parsed")
        return value

    def present(
        self, name: str, value: T | None, otherwise: QvlStatus, *, expected: str, seen: str, hint: str = ""
    ) -> T:
        """The value, if there is one; None ends the call with status ``otherwise``."""
        self.check(name, value is not None, otherwise, expected=expected, seen=seen, hint=hint)
        if value is None:
            raise _EndError(otherwise)
        return value

    def run(self, questions: Callable[["Inquiry"], QvlStatus]) -> CallResult:
        """Ask ``questions``; their status, or that of the first "no"."""
        try:
            status = questions(self)
        except _EndError as end:
            status = end.status
        return CallResult(status=status, checks=tuple(self._checks))


class _EndError(Exception):
    """A "no" on its way from a question to :meth:`Inquiry.run`."""

    def __init__(self, status: QvlStatus) -> None:
        super().__init__(status)
        self.status = status


def attempt(parse: Callable[[bytes], T], raw: bytes) -> T | MalformedError:
    """What ``parse`` makes of ``raw``, with its refusal as a value."""
    try:
        return parse(raw)
    except MalformedError as error:
        return error
