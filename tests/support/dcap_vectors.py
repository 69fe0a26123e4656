"""Real quotes and collateral, as ``tools/dcap_conformance.py`` reads them."""

from pathlib import Path

from bastide.dcap import Collateral
from support.tools import load_tool

conformance = load_tool("dcap_conformance")
PARTS: dict[str, str] = conformance.PARTS


def load_collateral(folder: Path) -> Collateral:
    """The collateral of one folder of the vectors."""
    collateral = conformance.load_collateral(folder)
    assert isinstance(collateral, Collateral)
    return collateral
