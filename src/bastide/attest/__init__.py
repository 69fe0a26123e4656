"""Room ``attest``."""
