"""Fuzz target: signers files, and what they allow: never an enclave whose signer and build no rule names."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bastide.enclave", "bastide.pods"]):
    from bastide.enclave.image import EnclaveBlock, EnclaveFile, EnclaveKind
    from bastide.enclave.signers import SignersPolicy
    from bastide.enclave.verify import judge
    from bastide.errors import MalformedError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.sgx_values import sigstruct

_SIGNED = sigstruct()
_FILE = EnclaveFile(kind=EnclaveKind.INTEL_SDK, blocks=(EnclaveBlock(name="one", sigstruct=_SIGNED),))


def test_one_input(data: bytes) -> None:
    """Read, judge an enclave, look for a statement's rule."""
    try:
        policy = SignersPolicy.parse(data, "fuzzed")
    except MalformedError:
        return
    named = any(
        (rule.mr_signer is not None or rule.mr_enclave is not None)
        and rule.mr_signer in (None, _SIGNED.mr_signer)
        and rule.mr_enclave in (None, _SIGNED.enclave_hash)
        for rule in policy.allow
    )
    denied = _SIGNED.mr_signer in policy.denied_signers or _SIGNED.enclave_hash in policy.denied_enclaves
    verdict = judge(_FILE, [_SIGNED.enclave_hash], policy, public_keys=())
    if verdict.acceptable and (denied or not named):
        raise AssertionError("allowed though no rule names it, or though it is denied")
    rule = policy.statement_rule("registry.example/payments/api")
    if rule is not None and not rule.keys:
        raise AssertionError("a rule about statements without a key")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
