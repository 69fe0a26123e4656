"""Signing keys whose private half is published: anybody can sign with them, so their MRSIGNER proves nothing.

An entry needs a source where the private key can be read. Each MRSIGNER was computed from the modulus of that key;
the first two are also printed by others as the default identity of samples.
"""

from types import MappingProxyType

from bastide.sgx.types import MrSigner

PUBLIC_SIGNERS = MappingProxyType(
    {
        MrSigner(bytes.fromhex("83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e")): (
            "the sample key of the Intel SGX SDK (Enclave_private.pem in SampleCode of intel/linux-sgx), which Occlum "
            "and many others use by default"
        ),
        MrSigner(bytes.fromhex("ca9ad7331448980aa28890ce73e433638377f179ab4456b2fe237193193a8d0a")): (
            "the key with which Open Enclave signs debug enclaves that nobody signed (host/signkey.c of "
            "openenclave/openenclave)"
        ),
        MrSigner(bytes.fromhex("07a2cf8fe5e57c1321e852797462924ee9b3b1d2bfcba0723b8fb346df646391")): (
            "the key of the SealUnseal sample of the Intel SGX SDK (Enclave_private_test.pem in SampleCode/SealUnseal "
            "of intel/linux-sgx)"
        ),
    }
)
"""Why each is public, by MRSIGNER."""
