"""The ``bastide`` command."""


def main() -> None:
    """Entry point."""
