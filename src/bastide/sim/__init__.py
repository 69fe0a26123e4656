"""Room ``sim``."""
