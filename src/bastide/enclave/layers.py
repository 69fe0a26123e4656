"""Streams of image layers: unpacked within limits, digests checked while they pass.

Everything here is a generator over pieces: memory is one piece and the decompressor's window.

Source: OCI image-spec v1.1 "Descriptors" (digests), "Layer media types"; RFC 1952 (gzip); RFC 8878 (zstd).
"""

import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from bastide.enclave.background import BackgroundHash
from bastide.errors import ConfigError, MalformedError
from bastide.units import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE: Final = 1 * MIB
"""Bytes of one piece, at most."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_OTHER_COMPRESSIONS: Final = {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_INPUT: Final = 64 * 1024
_DIGEST: Final = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one scan may meet before it is refused.

    Attributes:
        unpacked: bytes of all layers of one image, unpacked.
        entries: tar entries (or files of a folder).
        layers: layers of one image.
        ratio: unpacked bytes per packed byte of one layer; looked at above ``ratio_from`` unpacked bytes, so that
            a small layer of zeros is no bomb.
        ratio_from: see ``ratio``.
        window: bytes of a zstd window: what its decompressor keeps in memory.
        file: bytes of one ELF file, which is put aside (on disk above 8 MiB) while its sections are looked up.
        enclaves: findings in one scan.
    """

    unpacked: int = 256 * GIB
    entries: int = 4_000_000
    layers: int = 256
    ratio: int = 400
    ratio_from: int = 256 * MIB
    window: int = 32 * MIB
    file: int = 8 * GIB
    enclaves: int = 10_000


DEFAULT_LIMITS: Final = Limits()


def pieces_of(file: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """The next ``size`` bytes of ``file`` (all that are left, without a size) in pieces of at most 1 MiB."""
    left = size
    while left is None or left > 0:
        piece = file.read(PIECE if left is None else min(left, PIECE))
        if not piece:
            return
        if left is not None:
            left -= len(piece)
        yield piece


def check_digest_form(digest: str, where: str) -> str:
    """``digest`` itself, if it is ``sha256:`` or ``sha512:`` with lower-case hex digits.

    Raises:
        MalformedError: ``enclave.image.digest-form``.
    """
    if not _DIGEST.fullmatch(digest):
        message = f"expected sha256:<64 hex digits>, seen {digest[:80]!r}"
        raise MalformedError("enclave.image.digest-form", message, where=where)
    return digest


def checked(pieces: Iterable[bytes], digest: str, what: str) -> Iterator[bytes]:
    """The same pieces; after the last one their digest has been compared. They are hashed in a thread of their own.

    Raises:
        MalformedError: ``enclave.image.digest``.
    """
    algorithm, _, expected = digest.partition(":")
    with BackgroundHash(hashlib.new(algorithm)) as state:
        for piece in pieces:
            state.update(piece)
            yield piece
        found = state.digest().hex()
    if found != expected:
        raise MalformedError(
            "enclave.image.digest",
            f"expected {digest}, the content gives {algorithm}:{found}",
            hint="the image is damaged or was changed: pull or save it again",
            where=what,
        )


def unpacked(
    packed: Iterable[bytes], what: str, limits: Limits = DEFAULT_LIMITS, *, plain: bool = False
) -> Iterator[bytes]:
    """The content of a layer that is gzip, zstd or not packed; the first bytes tell (as in containerd).

    Args:
        packed: the layer.
        what: its name.
        limits: what to refuse.
        plain: its digest is that of its content: it is refused if it looks packed. A tar can begin like a packed file,
            and runtimes that go by its media type would read it as what it is.

    Raises:
        MalformedError: ``enclave.layer.compression`` (damaged, ends early, something behind it, or another
            compression), ``enclave.layer.window``, ``enclave.layer.ratio``.
        ConfigError: ``enclave.layer.zstd``: the zstandard package is not installed.
    """
    source = _Counted(packed)
    head = source.peek(6)
    for magic, name in _OTHER_COMPRESSIONS.items():
        if head.startswith(magic):
            raise _damaged(what, f"expected tar, gzip or zstd, seen {name}")
    if plain and is_packed(head):
        raise _damaged(
            what, "expected a layer that is not packed, as its diff id says, seen one that begins as if it were"
        )
    if head.startswith(_GZIP):
        yield from _bounded(_gunzip(source, what), source, what, limits)
    elif head.startswith(_ZSTD) or _is_skippable(head):
        yield from _bounded(_unzstd(source, what, limits), source, what, limits)
    else:
        yield from source


def is_packed(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (6 bytes) is gzip or zstd."""
    return head.startswith((_GZIP, _ZSTD)) or _is_skippable(head)


class _Counted:
    """Pieces, with a look at the first bytes and a count of what was taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._ahead = b""
        self.taken = 0

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (piece := next(self._pieces, b"")):
            self._ahead += piece
        return self._ahead[:size]

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._ahead or next(self._pieces, b""):
            self._ahead = b""
            self.taken += len(piece)
            yield piece


def _bounded(pieces: Iterable[bytes], source: _Counted, what: str, limits: Limits) -> Iterator[bytes]:
    out = 0
    for piece in pieces:
        out += len(piece)
        if out > limits.ratio_from and out > limits.ratio * source.taken:
            raise MalformedError(
                "enclave.layer.ratio",
                f"expected at most {limits.ratio} bytes per packed byte, seen {format_bytes(out)} out of "
                f"{format_bytes(source.taken)}",
                hint="this is a decompression bomb, or a layer with a huge file of zeros: leave that file out",
                where=what,
            )
        yield piece


def _gunzip(source: Iterable[bytes], what: str) -> Iterator[bytes]:
    """All members of a gzip file, in pieces of at most 1 MiB."""
    member = zlib.decompressobj(wbits=31)
    members = 0
    for piece in source:
        # What is left of the input is copied at each member's end, and members can be tiny: from the second member on
        # the input is cut small. (Most files have one, for which large pieces are quicker.)
        step = len(piece) if members < 2 else _INPUT
        for start in range(0, len(piece), step):
            rest = piece[start : start + step]
            while rest:
                if member.eof or not members:
                    member = zlib.decompressobj(wbits=31)
                    members += 1
                try:
                    out = member.decompress(rest, PIECE)
                except zlib.error as error:
                    raise _damaged(what, f"this is not gzip: {error}") from None
                rest = member.unused_data if member.eof else member.unconsumed_tail
                if out:
                    yield out
    while not member.eof:
        out = member.decompress(b"", PIECE)
        if not out:
            raise _damaged(what, "the gzip stream ends early")
        yield out


def _unzstd(source: Iterable[bytes], what: str, limits: Limits) -> Iterator[bytes]:
    """All frames of a zstd file."""
    try:
        import zstandard
    except ImportError:
        hint = "install it with: pip install 'bastide[enclave]'"
        raise ConfigError("enclave.layer.zstd", "zstd layers need the zstandard package", hint=hint) from None
    reader = zstandard.ZstdDecompressor(max_window_size=limits.window).stream_reader(
        io.BufferedReader(_Readable(source), _INPUT), read_across_frames=True
    )
    while True:
        try:
            piece = reader.read(PIECE)
        except zstandard.ZstdError as error:
            if "too much memory" in str(error):
                message = f"expected a zstd window of at most {format_bytes(limits.window)}, seen a larger one"
                hint = "pack the layer with a smaller window (zstd level 19 or less, no --long)"
                raise MalformedError("enclave.layer.window", message, hint=hint, where=what) from None
            raise _damaged(what, f"this is not zstd: {error}") from None
        if not piece:
            return
        yield piece


class _Readable(io.RawIOBase):
    """Pieces as the file that zstandard wants to read from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._ahead = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._ahead:
            self._ahead = memoryview(next(self._pieces, b""))
        view = memoryview(buffer)
        piece = self._ahead[: len(view)]
        view[: len(piece)] = piece
        self._ahead = self._ahead[len(piece) :]
        return len(piece)


def _is_skippable(head: bytes) -> bool:
    """Whether a zstd skippable frame begins here (0x184D2A50 to 0x184D2A5F, little-endian)."""
    return len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


def _damaged(what: str, message: str) -> MalformedError:
    return MalformedError("enclave.layer.compression", message, hint="pull or save the image again", where=what)
