"""mteb, imported once, and one tiny model."""

import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.benchmark.folders import write_model


@pytest.fixture(scope="session")
def bench():
    """All that imports mteb: it takes seconds, warns, and reseeds every generator."""
    # numpy's old generator is among what mteb seeds
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mteb

        from kl3m_embeddings.benchmark import (
            candidates,
            evaluate_task,
            local_tasks,
            model,
            named_tasks,
            run,
        )
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    return SimpleNamespace(
        mteb=mteb,
        candidates=candidates,
        evaluate_task=evaluate_task,
        local_tasks=local_tasks,
        model=model,
        named_tasks=named_tasks,
        run=run,
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def text_encoder(model_folder):
    from kl3m_embeddings.encoder.text_encoder import TextEncoder

    return TextEncoder.load(model_folder, precision="float32")


@pytest.fixture
def make_model(bench, text_encoder):
    """A function that makes a model as mteb asks for it."""

    def make(name="tiny", texts=text_encoder, **fields):
        return bench.model.EmbeddingModel(
            **{"name": name, "texts": texts, "prompts": {}, "quiet": True} | fields
        )

    return make
