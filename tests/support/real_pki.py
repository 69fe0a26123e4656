"""Certificate chains out of real quotes, for the tests that need them."""

import re

from cryptography import x509

from bastide.pki.chain import load_pem_chain
from support.vectors import vectors

UNREADABLE = frozenset({"sgx3-oe-ecbad"})
"""Quotes whose first certificate was damaged on purpose and is no X.509 any more."""


def real_chain_texts() -> dict[str, bytes]:
    """PEM with all that follows it (NUL, padding) of every real quote that holds a chain, by quote name."""
    texts = {}
    for path in sorted((vectors("dcap") / "quotes").glob("*.bin")):
        begin = re.search(rb"-----BEGIN CERTIFICATE-----.*", path.read_bytes(), re.DOTALL)
        if begin:
            texts[path.stem] = begin.group()
    return texts


def real_chains() -> dict[str, tuple[x509.Certificate, ...]]:
    """Every chain that can be read, by quote name."""
    texts = real_chain_texts()
    return {name: load_pem_chain(text) for name, text in texts.items() if name not in UNREADABLE}
