"""Options that several commands have."""

import re

import pytest
from typer.testing import CliRunner

from kl3m_embeddings.commands.cli import app


@pytest.mark.parametrize("command", ["mteb", "svd", "bench"])
def test_they_are_the_same_everywhere(command):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    shown = re.sub(r"\x1b\[[\d;]*m|[│ ]+", " ", shown)
    assert re.search(r"--device \S+ cuda, cuda:1, mps, cpu\.", shown)
    of_runs = re.search(r"--all-checkpoints \S+ Of a run, every checkpoint\.", shown)
    assert bool(of_runs) == (command != "bench")
