"""Unix sockets as the device plugin protocol uses them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from bastide.errors import ConfigError

LONGEST_PATH = 107
"""Bytes. The kernel's sun_path has 108 with its closing NUL (Linux man-pages, unix(7))."""

CHANNEL_OPTIONS = (
    # Go's server refuses what gRPC would send otherwise, the socket's path.
    ("grpc.default_authority", "localhost"),
    # Each dial is a fresh one: channels must not share another's back-off after a refused connection.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Options of every client channel to a unix socket."""


def socket_address(path: Path) -> str:
    """``path`` as gRPC names it.

    Raises:
        ConfigError: ``node.socket.path_length`` beyond 107 bytes; ``node.socket.path_relative``.
    """
    if not path.is_absolute():
        raise ConfigError("node.socket.path_relative", f"a socket's path is absolute, seen {str(path)!r}")
    length = len(bytes(path))
    if length > LONGEST_PATH:
        raise ConfigError(
            "node.socket.path_length",
            f"a unix socket's path has at most {LONGEST_PATH} bytes, seen {length}: {path}",
            hint="choose a shorter folder for the device plugins",
        )
    return f"unix:{quote(bytes(path))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketIdentity:
    """Which socket lies at a path: another one at the same path differs, even where its inode is used again."""

    device: int
    inode: int
    created_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The socket at ``path`` now, or None where there is none or it cannot be seen."""
        try:
            status = path.lstat()
        except OSError:
            return None
        return cls(device=status.st_dev, inode=status.st_ino, created_ns=status.st_mtime_ns)
