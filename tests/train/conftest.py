"""Runs of the tiny model folder that several tests go on from: trained once, then copied."""

import shutil

import pytest

from kl3m_embeddings.commands.train import main


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Where runs lie that are trained once and then copied."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def trained(make_model_folder, kept, tmp_path):
    """A function: a model folder trained with these fields and arguments; one name, one run."""

    def make(name, *arguments, **fields):
        if (kept / name).exists():
            return shutil.copytree(kept / name, tmp_path / name, symlinks=True)
        folder = make_model_folder(name, **fields)
        assert main([str(folder), *map(str, arguments), "--quiet"]) == 0
        shutil.copytree(folder, kept / name, symlinks=True)
        return folder

    return make


@pytest.fixture
def half_done(trained):
    """A run stopped at step 8 of 12, with checkpoints at 4 and 8."""
    return trained("model", "--stop-after", 8)


@pytest.fixture
def whole(trained):
    """The same run, never interrupted."""
    return trained("whole")
