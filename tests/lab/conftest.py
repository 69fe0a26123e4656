from pathlib import Path

import pytest

from support.commands import EXAMPLES, Ran, lab


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``--state`` whose keys are made once: making RSA keys takes most of a run."""
    folder = tmp_path_factory.mktemp("lab") / "state"
    lab(EXAMPLES / "sgx-test.yaml", "--state", folder, "--fault", "unknown-signer")
    return folder


@pytest.fixture(scope="session")
def main_job(keys: Path) -> Ran:
    """The main job with ``--json``."""
    return lab(EXAMPLES / "sgx-test.yaml", "--state", keys)
