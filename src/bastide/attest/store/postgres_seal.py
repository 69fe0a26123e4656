"""Under which key a shared database is sealed, and how it is brought under another.

The database says which key seals, not the order of anybody's key files: a proof in it is sealed under that key, and who
writes a private key looks at the proof in the same transaction. So replicas may get a new key one after the other while
all go on with the old one, and after the change none can seal under the old one any more.
"""

from dataclasses import dataclass

import asyncpg

from bastide.attest.store.sealing import KeySeal

SEAL_SETTING = "key-seal"
_PROOF = b"bastide"
_HOLD_PROOF = "SELECT value FROM setting WHERE name = $1 FOR UPDATE"
_SHARE_PROOF = "SELECT value FROM setting WHERE name = $1 FOR SHARE"
_PUT_PROOF = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
_FIND_KEYS = """SELECT tenant, kid, private_key FROM signing_key WHERE private_key IS NOT NULL
    ORDER BY tenant, kid FOR UPDATE"""
_PUT_KEY = "UPDATE signing_key SET private_key = $3 WHERE tenant = $1 AND kid = $2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResealedKey:
    """A private key, and the ids of the keys that it was and is sealed under."""

    tenant: str
    kid: str
    before: str
    after: str

    @property
    def is_changed(self) -> bool:
        """Whether it was under another key."""
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealing:
    """What became of it: the id of the key that seals now, the one that did, and every private key there is."""

    before: str | None
    after: str
    keys: tuple[ResealedKey, ...]


async def sealed_under(connection: asyncpg.Connection, seal: KeySeal, *, shared: bool = False) -> str | None:
    """The id of the key that seals, which stays so until the transaction ends; None in a database without proof.

    Args:
        connection: in a transaction.
        seal: the keys at hand.
        shared: others may hold it too, who will not change it either.

    Raises:
        ConfigError: ``store.key.wrong``: it is none of those at hand.
    """
    proof = await connection.fetchval(_SHARE_PROOF if shared else _HOLD_PROOF, SEAL_SETTING)
    return None if proof is None else seal.opened("", SEAL_SETTING, _bytes(proof))[1]


async def leave_proof(connection: asyncpg.Connection, seal: KeySeal) -> str:
    """Say that the first key of ``seal`` seals from now on; its id."""
    await connection.execute(_PUT_PROOF, SEAL_SETTING, seal.seal("", SEAL_SETTING, _PROOF).hex())
    return seal.ids[0]


async def reseal(connection: asyncpg.Connection, seal: KeySeal) -> Resealing:
    """Bring proof and keys under the first key of ``seal``; what is under it already stays as it is.

    Raises:
        ConfigError: ``store.key.wrong``.
    """
    before = await sealed_under(connection, seal)
    keys = [await _resealed(connection, seal, row) for row in await connection.fetch(_FIND_KEYS)]
    if before != seal.ids[0]:
        await leave_proof(connection, seal)
    return Resealing(before=before, after=seal.ids[0], keys=tuple(keys))


async def _resealed(connection: asyncpg.Connection, seal: KeySeal, row: asyncpg.Record) -> ResealedKey:
    tenant, kid, sealed = row
    private_key, before = seal.opened(tenant, kid, sealed)
    key = ResealedKey(tenant=tenant, kid=kid, before=before, after=seal.ids[0])
    if key.is_changed:
        await connection.execute(_PUT_KEY, tenant, kid, seal.seal(tenant, kid, private_key))
    return key


def _bytes(proof: str) -> bytes:
    try:
        return bytes.fromhex(proof)
    except ValueError:
        return b""
