"""Room ``pki``."""
