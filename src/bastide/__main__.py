"""``python -m bastide``."""

from bastide.cli import main

main()
