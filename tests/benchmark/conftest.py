"""mteb, imported once, and one tiny model."""

import pytest

from tests.benchmark.folders import write_model
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
