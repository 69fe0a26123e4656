"""Where real data lies, for the tests that need it.

The data is other people's and never enters the repository: ``BASTIDE_VECTORS`` names its folder, by default
``../shared/vectors`` beside the checkout. Tests that need it skip, by name, where it is absent.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("BASTIDE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))


def vectors(family: str) -> Path:
    """The folder of one family (``dcap``, ``enclave``, ``maa``, ``manifests``), or a named skip."""
    folder = ROOT / family
    if not folder.is_dir():
        pytest.skip(f"vectors/{family} is absent (set BASTIDE_VECTORS)", allow_module_level=True)
    return folder
