"""Checks in the words of a cluster: the judge of single enclaves speaks of a signers file and command-line options."""

from dataclasses import replace
from typing import Final

from bastide.checks import Check
from bastide.enclave.image import EnclaveKind

_HINTS: Final = {
    "enclave.signed": "sign it, or take it out of the image",
    "enclave.signer": "if you trust it, make a TrustedSigner with this mrSigner",
    "enclave.debug-mask": "sign it with DEBUG forced off; `debug: forbid-mask` of the TrustedSigner asks for that",
    "enclave.provision": (
        "it can read an identifier of the machine that outlives owners; `provision: true` of a TrustedSigner allows it"
    ),
}


def in_words(check: Check) -> str:
    """One sentence about a check that was answered with no."""
    hint = f" ({check.hint})" if check.hint else ""
    return f"{check.name}: expected {check.expected}, seen {check.seen}{hint}"


def in_cluster(
    path: str, check: Check, namespace: str, *, kind: EnclaveKind = EnclaveKind.UNKNOWN, why: str = ""
) -> Check:
    """The check with the enclave's path before what was seen, and with what to do in a cluster.

    Args:
        path: of the enclave in its image.
        check: of ``enclave.verify.judge`` or ``stated.judge_claim``.
        namespace: of the pod.
        kind: which SDK's.
        why: what stood in the way of reading or measuring it; empty where nothing did.
    """
    told = replace(check, seen=f"{path}: {check.seen}")
    if check.name == "enclave.signer":
        told = replace(told, expected=f"a TrustedSigner for its MRSIGNER or MRENCLAVE in namespace {namespace}")
    if check.ok:
        return told
    hint = _HINTS.get(check.name, check.hint)
    if check.name in ("enclave.measurement", "enclave.signed") and why:
        # Which SDK it is says what can be done: some can never be measured from the image alone.
        told, hint = replace(told, seen=f"{told.seen} ({kind})"), f"{hint}; {why}" if hint != why else why
    return replace(told, hint=hint)
