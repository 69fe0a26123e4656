"""Room ``dcap``."""
