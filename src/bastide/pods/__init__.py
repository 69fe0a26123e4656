"""Room ``pods``."""
