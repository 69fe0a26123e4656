from collections.abc import Iterator

import pytest

from support.registry import FakeRegistry, fake_registry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry on loopback that can misbehave."""
    with fake_registry() as served:
        yield served
