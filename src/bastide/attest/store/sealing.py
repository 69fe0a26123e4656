"""Private keys in a database that others can read: sealed under a key that only the replicas have.

AES-256-GCM with a fresh random nonce; tenant and key id are associated data, so nobody who can write the database can
give one tenant the key of another. A sealed key is one byte of format (2), 8 that name the sealing key, 12 of nonce,
ciphertext and 16 of tag. Format 1, which earlier versions wrote, has no name in it: there, every key at hand is tried.

Source: NIST SP 800-38D sections 5.2.1.1 and 8.2.2 (random nonces of 96 bits).
"""

import base64
import binascii
import hmac
import logging
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastide.errors import ConfigError

KEY_SIZE = 32
_NAMELESS, _NAMED = b"\x01", b"\x02"
_ID_SIZE = 8
_NONCE_SIZE = 12
_LARGEST_FILE = 1024
_PURPOSE = "bastide attestation signing key"
_ID_PURPOSE = b"bastide attestation sealing key id"
_log = logging.getLogger("bastide.attest")


class KeySeal:
    """Opens private keys that any of ``keys`` (32 bytes each) has sealed, and seals with the first or a named one."""

    def __init__(self, *keys: bytes) -> None:
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}

    @property
    def ids(self) -> tuple[str, ...]:
        """What the keys are called, in their order: 16 hex digits that say nothing about a key."""
        return tuple(key_id.hex() for key_id in self._ciphers)

    def seal(self, tenant: str, kid: str, private_key: bytes, *, under: str | None = None) -> bytes:
        """``private_key`` for the database, sealed with the key whose id is ``under``; None for the first."""
        head = _NAMED + bytes.fromhex(under or self.ids[0])
        nonce = secrets.token_bytes(_NONCE_SIZE)
        sealed = self._ciphers[head[1:]].encrypt(nonce, private_key, _associated(tenant, kid, head))
        return head + nonce + sealed

    def open(self, tenant: str, kid: str, sealed: bytes) -> bytes:
        """The private key that was sealed for this tenant and key id.

        Raises:
            ConfigError: ``store.key.wrong``.
        """
        return self.opened(tenant, kid, sealed)[0]

    def opened(self, tenant: str, kid: str, sealed: bytes) -> tuple[bytes, str]:
        """What ``open`` gives, and the id of the key that it was sealed under.

        Raises:
            ConfigError: ``store.key.wrong``.
        """
        head, text = sealed[: 1 + _ID_SIZE], sealed[1 + _ID_SIZE :]
        if head[:1] == _NAMED and len(head) == 1 + _ID_SIZE:
            if head[1:] not in self._ciphers:
                raise self._wrong(tenant, kid, f"is sealed under the key {head[1:].hex()}")
            private_key = self._try(head[1:], text, _associated(tenant, kid, head))
            if private_key is not None:
                return private_key, head[1:].hex()
            raise self._wrong(tenant, kid, f"was changed since the key {head[1:].hex()} sealed it")
        for key_id in self._ciphers if head[:1] == _NAMELESS else ():
            private_key = self._try(key_id, sealed[1:], _associated(tenant, kid))
            if private_key is not None:
                return private_key, key_id.hex()
        raise self._wrong(tenant, kid, "was not sealed with this key file")

    def _try(self, key_id: bytes, text: bytes, associated: bytes) -> bytes | None:
        try:
            return self._ciphers[key_id].decrypt(text[:_NONCE_SIZE], text[_NONCE_SIZE:], associated)
        except (InvalidTag, ValueError):
            return None

    def _wrong(self, tenant: str, kid: str, what: str) -> ConfigError:
        subject = f"{kid!r} of tenant {tenant!r}" if tenant else "this database"
        return ConfigError(
            "store.key.wrong",
            f"{subject} {what}; at hand: {', '.join(self.ids)}",
            hint="give every replica the key that the database is sealed under as a --key-file (there may be several); "
            "where that and a new one are at hand, `bastide attest reseal` changes it",
        )


def read_key_files(files: Sequence[Path]) -> KeySeal:
    """The keys of key files, in their order; warns in the log when others than its owner can read one.

    Raises:
        ConfigError: ``file.unreadable``, ``store.key.form``.
    """
    return KeySeal(*(_read_key(file) for file in files))


def _read_key(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(file.stat().st_mode)
            raw = opened.read(_LARGEST_FILE)
    except OSError as error:
        raise ConfigError("file.unreadable", f"cannot read it: {error.strerror}", where=str(file)) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("%s has mode %04o: others than its owner can use the key; 0600 is better", file, mode)
    key = raw if len(raw) == KEY_SIZE else _decoded(raw)
    if len(key) != KEY_SIZE:
        raise ConfigError(
            "store.key.form",
            f"expected {KEY_SIZE} bytes, or {KEY_SIZE} bytes in base64, seen {len(raw)} bytes of something else",
            hint="openssl rand -base64 32 makes one",
            where=str(file),
        )
    return key


def _decoded(raw: bytes) -> bytes:
    try:
        return base64.b64decode(raw.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _id_of(key: bytes) -> bytes:
    return hmac.digest(key, _ID_PURPOSE, "sha256")[:_ID_SIZE]


def _associated(tenant: str, kid: str, head: bytes = b"") -> bytes:
    return b"\0".join(part.encode() for part in (_PURPOSE, tenant, kid)) + head
