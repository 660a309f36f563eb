"""mteb, imported once, and one tiny model."""

from pathlib import Path

import pytest
import torch

from kl3m_embeddings.encoder.folder.model_paths import model_paths
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import WRITERS, write_model
from tests.benchmark.mteb_modules import import_quietly


@pytest.fixture(scope="session")
def bench():
    """All that imports mteb: it takes seconds."""
    return import_quietly()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def text_encoder(model_folder):

    return TextEncoder.load(model_folder, precision="float32")


@pytest.fixture
def make_model(bench, text_encoder):
    """A function that makes a model as mteb asks for it."""

    def make(name="tiny", texts=text_encoder, **fields):
        return bench.model.EmbeddingModel(
            **{"name": name, "texts": texts, "prompts": {}, "quiet": True} | fields
        )

    return make


@pytest.fixture
def score(bench, tmp_path):
    """A function that scores model folders and baselines on task folders."""

    def run(models, folders, *, baselines=(), all_checkpoints=False, out="out", **settings):
        options = bench.candidates.LoadOptions(
            device=torch.device("cpu"), precision="float32", quiet=True
        )
        candidates = [bench.candidates.baseline_candidate(one, options, print) for one in baselines]
        for model in models:
            places = model_paths(str(model), print, all_checkpoints=all_checkpoints)
            candidates += [bench.candidates.candidate_at(place, options) for place in places]
        tasks = [
            bench.local_tasks.local_task(read_local_task(one)) if isinstance(one, Path) else one
            for one in folders
        ]
        return bench.run.Benchmark(folder=tmp_path / out, tasks=tasks, **settings).score(candidates)

    return run


@pytest.fixture
def sts(tmp_path):
    return WRITERS["STS"](tmp_path / "alike")


@pytest.fixture
def retrieval(tmp_path):
    return WRITERS["Retrieval"](tmp_path / "find")
