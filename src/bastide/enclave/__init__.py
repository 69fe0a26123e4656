"""Room ``enclave``."""
