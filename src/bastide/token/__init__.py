"""Room ``token``."""
