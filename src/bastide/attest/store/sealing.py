"""Private keys in a database that others can read: sealed under a key that only the replicas have.

AES-256-GCM with a fresh random nonce; tenant and key id are associated data, so nobody who can write the database can
give one tenant the key of another. A sealed key is one byte of format, 12 of nonce, ciphertext and 16 of tag.

Source: NIST SP 800-38D sections 5.2.1.1 and 8.2.2 (random nonces of 96 bits).
"""

import base64
import binascii
import logging
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastide.errors import ConfigError

KEY_SIZE = 32
_FORMAT = b"\x01"
_NONCE_SIZE = 12
_LARGEST_FILE = 1024
_PURPOSE = "bastide attestation signing key"
_log = logging.getLogger("bastide.attest")


class KeySeal:
    """Seals and opens private keys with ``key`` (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def parse(cls, raw: bytes) -> "KeySeal":
        """The content of a key file: 32 bytes, or those in base64.

        Raises:
            ConfigError: ``store.key.form``.
        """
        key = raw if len(raw) == KEY_SIZE else _decoded(raw)
        if len(key) != KEY_SIZE:
            raise ConfigError(
                "store.key.form",
                f"expected {KEY_SIZE} bytes, or {KEY_SIZE} bytes in base64, seen {len(raw)} bytes of something else",
                hint="openssl rand -base64 32 makes one",
            )
        return cls(key)

    def seal(self, tenant: str, kid: str, private_key: bytes) -> bytes:
        """``private_key`` for the database."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, private_key, _associated(tenant, kid))

    def open(self, tenant: str, kid: str, sealed: bytes) -> bytes:
        """The private key that was sealed for this tenant and key id.

        Raises:
            ConfigError: ``store.key.wrong``.
        """
        text = sealed.removeprefix(_FORMAT)
        try:
            return self._cipher.decrypt(text[:_NONCE_SIZE], text[_NONCE_SIZE:], _associated(tenant, kid))
        except (InvalidTag, ValueError):
            raise ConfigError(
                "store.key.wrong",
                f"{kid!r} of tenant {tenant!r} was not sealed with this key file",
                hint="give every replica the --key-file with which the database was made",
            ) from None


def read_key_file(file: Path) -> KeySeal:
    """The seal of a key file; warns in the log when others than its owner can read it.

    Raises:
        ConfigError: ``file.unreadable``, ``store.key.form``.
    """
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(file.stat().st_mode)
            raw = opened.read(_LARGEST_FILE)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(file)) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("%s has mode %04o: others than its owner can use the key; 0600 is better", file, mode)
    return KeySeal.parse(raw)


def _decoded(raw: bytes) -> bytes:
    try:
        return base64.b64decode(raw.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _associated(tenant: str, kid: str) -> bytes:
    return b"\0".join(part.encode() for part in (_PURPOSE, tenant, kid))
