"""mteb, imported once."""

import pytest

from tests.benchmark.mteb_modules import import_quietly


@pytest.fixture(scope="session")
def bench():
    """All that imports mteb: it takes seconds."""
    return import_quietly()
