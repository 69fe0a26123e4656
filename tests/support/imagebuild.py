"""The modules of ``deploy/images``: scripts beside each other, which tests look into."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).parents[2] / "deploy" / "images"


def load(name: str) -> ModuleType:
    """The module of ``deploy/images/<name>.py``; its neighbours are importable by it."""
    if str(SCRIPTS) not in sys.path:
        sys.path.append(str(SCRIPTS))
    return importlib.import_module(name)
