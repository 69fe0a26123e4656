"""Names for the byte strings and numbers that carry meaning in SGX.

Source: Intel SDM Vol. 3D, "Enclave Access Control and Data Structures"; Intel PCK certificate profile (FMSPC).
"""

from typing import NewType

MrEnclave = NewType("MrEnclave", bytes)
"""32 bytes: SHA-256 over how the enclave was built."""

MrSigner = NewType("MrSigner", bytes)
"""32 bytes: SHA-256 over the modulus of the key that signed the enclave."""

CpuSvn = NewType("CpuSvn", bytes)
"""16 bytes: security version of the processor, one component per byte."""

Fmspc = NewType("Fmspc", bytes)
"""6 bytes: family, model, stepping, platform and custom SKU of the processor."""

Svn = NewType("Svn", int)
"""Unsigned 16 bits: security version number of a piece of software."""
