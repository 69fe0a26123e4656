"""Room ``catalogue``."""
