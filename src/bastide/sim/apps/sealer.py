"""``sealer``: seals a secret with a key of EGETKEY in its first run and unseals it in a second one.

The key is bound to MRSIGNER and to the CPU: another signer, another node or a lab without ``--state`` cannot open it.

Source: Intel SDM vol. 3D, EGETKEY (SEAL_KEY); blob = KEYREQUEST (512) | nonce (12) | AES-128-GCM ciphertext and tag.
"""

import secrets
from collections.abc import Generator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.keys import KeyRequest
from bastide.sim.apps import Host
from bastide.sim.enclave import Inside

FILE = "sealed.bin"
_REQUEST, _NONCE = 512, 12


def run(inside: Inside, host: Host) -> Generator[None, None, int]:
    """Seal a new secret, or unseal the one of an earlier run."""
    yield from ()
    blob = host.storage.get(FILE)
    if blob is None:
        host.storage[FILE] = _seal(inside, secrets.token_bytes(32))
        host.print("sealed a new secret of 32 bytes; run again to unseal it")
        return 0
    secret = _unseal(inside, blob)
    if secret is None:
        host.print("cannot unseal: the secret was sealed by another signer or on another CPU, or it was changed")
        return 1
    host.print(f"unsealed the secret of an earlier run: {len(secret)} bytes")
    return 0


def _seal(inside: Inside, secret: bytes) -> bytes:
    request = inside.seal_key_request()
    nonce = secrets.token_bytes(_NONCE)
    header = request.build()
    return header + nonce + AESGCM(inside.get_key(request)).encrypt(nonce, secret, header)


def _unseal(inside: Inside, blob: bytes) -> bytes | None:
    """The secret; None where the blob, which the host kept and may have changed, is not this enclave's."""
    header, nonce, sealed = blob[:_REQUEST], blob[_REQUEST : _REQUEST + _NONCE], blob[_REQUEST + _NONCE :]
    try:
        return AESGCM(inside.get_key(KeyRequest.parse(header))).decrypt(nonce, sealed, header)
    except (MalformedError, UntrustedError, InvalidTag, ValueError):
        return None
