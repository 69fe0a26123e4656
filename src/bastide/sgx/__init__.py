"""Room ``sgx``."""
