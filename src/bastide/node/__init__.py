"""Room ``node``."""
