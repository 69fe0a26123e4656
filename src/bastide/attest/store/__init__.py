"""Adapters of the store's port: memory for tests and trials, SQLite for one machine."""
