"""Tar streams, read forward only: memory is bounded whatever the stream says.

We read what image builders write (ustar, pax, GNU long names) as Go's archive/tar reads it, because containerd, docker
and podman are Go: where tar dialects differ, seeing another file tree than the runtime would hide an enclave. Sparse
files, multi-volume archives and unknown types are refused, and so are headers that readers take for different things.

Public API: ``TarReader(chunks).entries()``, and ``TarReader.content()`` for the entry given last.

Source: IEEE Std 1003.1-2017 pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format"; OCI image-spec v1.1 "Image Layer Filesystem Changeset".
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bastide.errors import MalformedError

BLOCK: Final = 512
"""Bytes of one tar block; headers are one block, content is padded to whole blocks."""
LARGEST_EXTENSION: Final = 1 << 20
"""Bytes of one pax or GNU header that we take (Go takes the same)."""
LONGEST_NAME: Final = 4096
"""Bytes of one path: PATH_MAX of Linux."""

_LARGEST_SIZE: Final = 1 << 62
_ZERO: Final = bytes(BLOCK)
_SEEN: Final = " kinds"
"""Under this key, which no record is kept by, stand the kinds of the extended headers of an entry."""


class EntryType(Enum):
    """What an entry makes; devices and FIFOs are ``OTHER``. A ``GLOBAL_HEADER`` makes nothing."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symlink"
    DIRECTORY = "directory"
    OTHER = "other"
    GLOBAL_HEADER = "global header"


_TYPES: Final = {
    b"0": EntryType.FILE,
    b"\0": EntryType.FILE,
    b"7": EntryType.FILE,
    b"1": EntryType.HARD_LINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.OTHER,
    b"4": EntryType.OTHER,
    b"5": EntryType.DIRECTORY,
    b"6": EntryType.OTHER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One entry of a tar stream.

    Attributes:
        name: as written, UTF-8; bytes that are not UTF-8 are kept as lone surrogates.
        type: what it makes.
        size: bytes of content; 0 for all but files.
        link: target of a link, as written; else empty.
        offset: bytes from the begin of the stream to the content.
    """

    name: str
    type: EntryType
    size: int
    link: str
    offset: int


class TarReader:
    """Reads one tar stream.

    Args:
        chunks: the stream, uncompressed, in pieces of any size.
        skip: passes over that many bytes before the next chunk, where the source can do so without reading them.
    """

    def __init__(self, chunks: Iterable[bytes], skip: Callable[[int], object] | None = None) -> None:
        self._chunks = iter(chunks)
        self._skip = skip
        self._buffer = b""
        self._at = 0
        self._before_buffer = 0
        self._content_left = 0
        self._padding = 0

    def entries(self) -> Iterator[TarEntry]:
        """The entries in order; what is left of an entry's content is passed over. Reads to the end of the stream.

        Raises:
            MalformedError: ``tar.truncated``, ``tar.header``, ``tar.checksum``, ``tar.number``, ``tar.type``,
                ``tar.pax``, ``tar.name``, ``tar.sparse``, ``tar.extension-size``.
        """
        extended: dict[str, str] = {}
        while (header := self._header()) is not None:
            kind = header[156:157]
            if kind == b"g":
                yield self._global(header, extended)
                continue
            if kind in b"xLK":
                extended = self._extension(kind, header, extended)
                continue
            yield self._entry(header, extended)
            extended = {}
        if extended:
            raise MalformedError("tar.truncated", "the stream ends between an extended header and its entry")

    def content(self) -> Iterator[bytes]:
        """The content of the entry given last, in pieces, none empty; can be left off at any point."""
        while self._content_left:
            if self._at == len(self._buffer):
                self._refill()
            piece = self._buffer[self._at : self._at + self._content_left]
            self._at += len(piece)
            self._content_left -= len(piece)
            yield piece

    def _header(self) -> bytes | None:
        """The next header block, None at the end of the archive (whatever follows that is read and dropped)."""
        self._pass_over(self._content_left + self._padding)
        self._content_left = self._padding = 0
        header = self._take(BLOCK, may_end=True)
        if header is None:
            return None
        if header == _ZERO:
            second = self._take(BLOCK, may_end=True)
            if second not in (None, _ZERO):
                raise self._broken("header", "expected two zero blocks at the end, seen one")
            for _ in self._chunks:
                pass
            return None
        return header

    def _entry(self, header: bytes, extended: dict[str, str]) -> TarEntry:
        self._check(header)
        entry_type = _TYPES.get(header[156:157])
        if entry_type is None:
            if header[156:157] == b"S":
                raise self._sparse()
            raise self._broken("type", f"unknown entry type {header[156:157]!r}")
        name = extended.get("path") or _plain_name(header)
        size = self._size(header, extended)
        if entry_type is EntryType.FILE and name.endswith("/"):
            if header[156:157] != b"\0" and size:
                # Go makes a file of it, GNU tar a folder: the content of the one is headers to the other.
                raise self._broken("type", "a file with content whose name is that of a folder")
            entry_type = EntryType.DIRECTORY  # the form of tar before POSIX, still read by all
        if entry_type is not EntryType.FILE:
            size = 0  # header-only types: whatever they claim, no content follows
        self._content_left, self._padding = size, -size % BLOCK
        return TarEntry(
            name=self._name(name),
            type=entry_type,
            size=size,
            link=self._name(extended.get("linkpath") or _text(header[157:257])),
            offset=self._before_buffer + self._at,
        )

    def _size(self, header: bytes, extended: dict[str, str]) -> int:
        written = extended.get("size")
        if written is None:
            return self._number(header[124:136])
        if not written.isascii() or not written.isdigit() or len(written) > 19 or int(written) > _LARGEST_SIZE:
            raise self._broken("pax", f"expected a decimal size, seen {written[:32]!r}")
        return int(written)

    def _global(self, header: bytes, extended: dict[str, str]) -> TarEntry:
        """A pax header about all entries; Go passes over what it says, and readers of Go remove what has its name."""
        if extended:
            raise self._broken("pax", "a global header between an extended header and its entry")
        wanted = self._extension(b"g", header, {}).keys() - {_SEEN}
        if wanted:
            raise self._broken("pax", f"a global header sets {', '.join(sorted(wanted))} for all entries")
        name = self._name(_plain_name(header))
        offset = self._before_buffer + self._at
        return TarEntry(name=name, type=EntryType.GLOBAL_HEADER, size=0, link="", offset=offset)

    def _extension(self, kind: bytes, header: bytes, extended: dict[str, str]) -> dict[str, str]:
        """What a pax or GNU header says about the entry that follows it, together with ``extended``.

        Of two pax headers Go takes the last one alone, others both; of a pax and a GNU name each takes its own.
        """
        self._check(header)
        seen = f"{extended.get(_SEEN, '')}{kind.decode()}"
        if len(set(seen)) != len(seen):
            raise self._broken("pax", "two extended headers of one kind for one entry")
        size = self._number(header[124:136])
        if size > LARGEST_EXTENSION:
            message = f"expected an extended header of at most {LARGEST_EXTENSION} bytes, seen {size}"
            raise self._broken("extension-size", message)
        raw = self._take(size) or b""
        self._pass_over(-size % BLOCK)
        if kind in b"LK":
            return self._joined(extended, {"path" if kind == b"L" else "linkpath": _text(raw)}, seen)
        records = self._pax(raw)
        if any(key.startswith("GNU.sparse.") for key in records):
            raise self._sparse()
        wanted = {key: value for key, value in records.items() if key in ("path", "linkpath", "size")}
        return self._joined(extended, wanted, seen)

    def _joined(self, extended: dict[str, str], more: dict[str, str], seen: str) -> dict[str, str]:
        if not extended.keys().isdisjoint(more):
            raise self._broken("pax", "a pax and a GNU header name one entry")
        return {**extended, **more, _SEEN: seen}

    def _pax(self, raw: bytes) -> dict[str, str]:
        """Records of the form ``length key=value newline``, the length being that of the whole record."""
        records: dict[str, str] = {}
        at = 0
        while at < len(raw):
            space = raw.find(b" ", at, at + 8)
            digits = raw[at:space] if space > at else b""
            length = int(digits) if digits.isdigit() else 0
            record = raw[space + 1 : at + length]
            key, equals, value = record.removesuffix(b"\n").partition(b"=")
            if at + length > len(raw) or not record.endswith(b"\n") or not equals or b"\0" in key:
                raise self._broken("pax", f"expected 'length key=value' lines, seen {raw[at : at + 40]!r}")
            records[_decode(key)] = _decode(value)
            at += length
        return records

    def _check(self, header: bytes) -> None:
        stored = self._number(header[148:156])
        if sum(header) - sum(header[148:156]) + 8 * 0x20 != stored:
            raise self._broken("checksum", "the header's checksum is wrong: this is no tar stream, or it is damaged")

    def _number(self, field: bytes) -> int:
        """Octal text, or a big-endian number after a byte 0x80 (GNU, for sizes of 8 GiB and more)."""
        if field[0] & 0x80:
            value = int.from_bytes(field[1:], "big")
            if field[0] != 0x80 or value > _LARGEST_SIZE:
                raise self._broken("number", f"expected a size, seen {field.hex()}")
            return value
        digits = field.strip(b" \0")
        if digits.strip(b"01234567"):
            raise self._broken("number", f"expected octal digits, seen {field!r}")
        return int(digits, 8) if digits else 0

    def _name(self, name: str) -> str:
        if len(name) > LONGEST_NAME or "\0" in name:
            raise self._broken("name", f"expected a path of at most {LONGEST_NAME} bytes without NUL")
        return name

    def _take(self, size: int, *, may_end: bool = False) -> bytes | None:
        """Exactly ``size`` bytes; None at the end of the stream where that is allowed."""
        missing = size - (len(self._buffer) - self._at)
        more: list[bytes] = []  # joined once: chunks may be tiny
        while missing > 0 and (chunk := next(self._chunks, None)) is not None:
            more.append(chunk)
            missing -= len(chunk)
        if more:
            self._before_buffer += self._at
            self._buffer, self._at = b"".join((self._buffer[self._at :], *more)), 0
        if missing > 0:
            if may_end and self._at == len(self._buffer):
                return None
            raise self._truncated()
        self._at += size
        return self._buffer[self._at - size : self._at]

    def _pass_over(self, size: int) -> None:
        while size > len(self._buffer) - self._at:
            size -= len(self._buffer) - self._at
            self._at = len(self._buffer)
            if self._skip is not None:
                self._skip(size)
                self._before_buffer += size
                return
            self._refill()
        self._at += size

    def _refill(self) -> None:
        """Get the next chunk in place of this one, which is used up; the stream must not end here."""
        chunk = next(self._chunks, None)
        if chunk is None:
            raise self._truncated()
        self._before_buffer += self._at
        self._buffer, self._at = chunk, 0

    def _truncated(self) -> MalformedError:
        return self._broken("truncated", "the stream ends inside an entry")

    def _sparse(self) -> MalformedError:
        return self._broken("sparse", "a sparse file; image layers have none")

    def _broken(self, defect: str, message: str) -> MalformedError:
        where = f"tar offset {self._before_buffer + self._at}"
        return MalformedError(f"tar.{defect}", message, hint="build or save the image again", where=where)


def _plain_name(header: bytes) -> str:
    """Name of the header itself, with the prefix of ustar, or the shorter one of star.

    GNU keeps times there; where these are none, Go takes them for a prefix (as its own writer once made them).
    """
    name, magic = _text(header[:100]), header[257:263]
    is_gnu = magic == b"ustar "
    prefix = _text(header[345:476] if magic == b"ustar\0" and header[508:] == b"tar\0" else header[345:500])
    if is_gnu and (_are_times(header[345:357], header[357:369]) or not prefix.isascii()):
        return name
    return f"{prefix}/{name}" if prefix and (is_gnu or magic == b"ustar\0") else name


def _are_times(*fields: bytes) -> bool:
    return all(field[0] in b"\0\x80\xff" or not field.strip(b" \0").strip(b"01234567") for field in fields)


def _text(field: bytes) -> str:
    return _decode(field.partition(b"\0")[0])


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
