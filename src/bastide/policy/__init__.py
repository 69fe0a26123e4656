"""Room ``policy``."""
