"""HTTP to registries: GETs to an address that was checked, one per connection, within bounds of size and time.

``http.client`` connects by name and waits for each read anew; here the connection goes to an address, TLS is checked
by name, and one deadline covers everything from the first byte sent to the last one read. Proxies and credentials of
the environment are not used.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bastide import __version__
from bastide.cluster.scanner.addresses import Address, Lookup, checked_addresses, lookup
from bastide.cluster.scanner.registries import Origin
from bastide.errors import MalformedError, UnavailableError
from bastide.units import format_bytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

IDLE: Final = 15.0
"""Seconds without a byte after which a connection counts as dead."""
_MOST_TRIED: Final = 3
_PIECE: Final = 256 * 1024
_AGENT: Final = f"bastide-scanner/{__version__}"


class Deadline:
    """An end in time for many steps.

    Args:
        seconds: from now.
        clock: seconds that only rise.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._seconds = seconds

    def remaining(self) -> float:
        """Seconds left, more than 0.

        Raises:
            UnavailableError: ``scanner.http.slow``: none.
        """
        left = self._end - self._clock()
        if left <= 0:
            message = f"expected everything within {self._seconds:g} s"
            raise UnavailableError("scanner.http.slow", message, hint="the registry is slow, or the image very large")
        return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request.

    Attributes:
        origin: where to.
        target: path and query, encoded, beginning with ``/``.
        headers: beside Host, User-Agent and Accept-Encoding.
    """

    origin: Origin
    target: str
    headers: Mapping[str, str]

    @property
    def where(self) -> str:
        """For messages: without the query, which can hold signatures of a storage service."""
        return f"{self.origin.authority}{self.target.partition('?')[0]}"[:300]


class Reply:
    """An answer whose body is still to come."""

    def __init__(self, response: http.client.HTTPResponse, question: Question) -> None:
        self._response = response
        self.question = question
        self.status = response.status

    def header(self, name: str) -> str:
        """A header; empty where there is none."""
        return self._response.getheader(name) or ""

    def headers(self, name: str) -> list[str]:
        """All headers of a name."""
        return self._response.headers.get_all(name) or []

    def pieces(self, most: int) -> Iterator[bytes]:
        """The body in pieces.

        Raises:
            MalformedError: ``scanner.http.size``: it has more than ``most`` bytes.
            UnavailableError: ``scanner.http.unreachable`` (it ends early), ``scanner.http.slow``.
        """
        stated = self._response.length
        if stated is not None and stated > most:
            raise self._too_large(most)
        taken = 0
        with _faults(self.question):
            while piece := self._response.read1(_PIECE):
                taken += len(piece)
                if taken > most:
                    raise self._too_large(most)
                yield piece
        if stated is not None and taken != stated:
            message = f"the answer ends after {taken} of {stated} bytes"
            raise UnavailableError("scanner.http.unreachable", message, where=self.question.where)

    def body(self, most: int) -> bytes:
        """The whole body; errors as ``pieces``."""
        return b"".join(self.pieces(most))

    def _too_large(self, most: int) -> MalformedError:
        message = f"expected an answer of at most {format_bytes(most)}, seen a larger one"
        return MalformedError("scanner.http.size", message, where=self.question.where)


class Wire:
    """Connections to hosts, each checked before anything is sent.

    Args:
        trust: what TLS certificates are judged by.
        ask: the resolver.
        idle: seconds without a byte after which a connection counts as dead.
    """

    def __init__(self, trust: ssl.SSLContext, *, ask: Lookup = lookup, idle: float = IDLE) -> None:
        self._trust = trust
        self._lookup = ask
        self._idle = idle

    @contextmanager
    def get(self, question: Question, deadline: Deadline) -> Iterator[Reply]:
        """Send a GET; the answer's body can be read while the context lasts. Redirects are not followed.

        Raises:
            PolicyError: ``scanner.address.closed``.
            UnavailableError: ``scanner.http.name``, ``scanner.http.unreachable``, ``scanner.http.slow``.
            MalformedError: ``scanner.http.encoding``, ``scanner.http.size``.
        """
        origin = question.origin
        deadline.remaining()
        addresses = checked_addresses(origin.host, origin.port, private=origin.private, ask=self._lookup)
        with closing(self._connected(question, addresses, deadline)) as sock:
            connection = http.client.HTTPConnection(origin.authority)
            connection.sock = _TimedSocket(sock, deadline, self._idle)
            with _faults(question):
                headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **question.headers}
                connection.request("GET", question.target, headers=headers)
                response = connection.getresponse()
            with closing(response):
                if response.getheader("Content-Encoding", "identity") != "identity":
                    message = "expected a body that is not compressed on its way"
                    raise MalformedError("scanner.http.encoding", message, where=question.where)
                yield Reply(response, question)

    def _connected(self, question: Question, addresses: tuple[Address, ...], deadline: Deadline) -> socket.socket:
        failure: Exception | None = None
        for address in addresses[:_MOST_TRIED]:
            try:
                return self._connect(question.origin, address, deadline)
            except OSError as error:  # certificates that do not fit are OSErrors too
                failure = error
        hint = None
        if isinstance(failure, ssl.SSLCertVerificationError):
            hint = "a private certificate authority is trusted with --registry-ca-cert FILE"
        elif isinstance(failure, ssl.SSLError) and failure.reason == "WRONG_VERSION_NUMBER":
            hint = "it does not speak TLS; list a registry of plain HTTP as --private-registry http://HOST[:PORT]"
        message = f"cannot connect: {str(failure)[:200]}"
        raise UnavailableError("scanner.http.unreachable", message, hint=hint, where=question.where)

    def _connect(self, origin: Origin, address: Address, deadline: Deadline) -> socket.socket:
        plain = socket.create_connection((str(address), origin.port), timeout=min(self._idle, deadline.remaining()))
        try:
            plain.settimeout(min(self._idle, deadline.remaining()))
            if origin.scheme == "https":
                return self._trust.wrap_socket(plain, server_hostname=origin.host)
        except BaseException:
            plain.close()
            raise
        return plain


class _TimedSocket:
    """As much of a socket as ``http.client`` uses; each read waits no longer than the deadline lets it."""

    def __init__(self, sock: socket.socket, deadline: Deadline, idle: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._idle = idle

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(min(self._idle, self._deadline.remaining()))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 - always "rb"
        return io.BufferedReader(_TimedReader(self._sock, self._deadline, self._idle), _PIECE)

    def close(self) -> None:
        """Nothing: ``http.client`` lets go of a connection that will end while its answer is still to be read."""


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline, idle: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._idle = idle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        # A body that comes a byte at a time never makes a single read wait long: the deadline is looked at each time.
        self._sock.settimeout(min(self._idle, self._deadline.remaining()))
        return self._sock.recv_into(buffer)


@contextmanager
def _faults(question: Question) -> Iterator[None]:
    """Faults of the connection, and what is no HTTP, become ours."""
    try:
        yield
    except TimeoutError as error:
        raise UnavailableError("scanner.http.slow", "no answer in time", where=question.where) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = f"no good answer: {str(error)[:200] or type(error).__name__}"
        raise UnavailableError("scanner.http.unreachable", message, where=question.where) from error
