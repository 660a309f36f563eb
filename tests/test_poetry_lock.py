"""The lock file: what two versions of one package would do to each other."""

import tomllib
from collections import Counter
from pathlib import Path


def test_no_cuda_package_is_locked_twice():
    """They are not told apart by a Python version: both would be installed, over each other."""
    lock = tomllib.loads((Path(__file__).parents[1] / "poetry.lock").read_text())
    names = Counter(
        package["name"] for package in lock["package"] if package["name"].startswith("nvidia-")
    )
    assert names
    assert not [name for name, count in names.items() if count > 1]
