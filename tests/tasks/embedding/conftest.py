import pytest

from kl3m_embeddings.data.pair_sets.build import build_pair_set
from kl3m_embeddings.data.pair_sets.order import PairOrder
from kl3m_embeddings.tasks.embedding.pairs import PairSource


@pytest.fixture(scope="session")
def pair_sets(tiny_pair_files, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {
        name: build_pair_set(name, path, tiny_tokenizer, folder).pair_set
        for name, path in tiny_pair_files.items()
    }


@pytest.fixture
def make_source(pair_sets, tiny_tokenizer):
    def make(*names, batch_size=8, num_negatives=2, guides=None):
        order = PairOrder.build(
            [pair_sets[name] for name in names or ("train",)],
            seed=1,
            batch_size=batch_size,
            num_negatives=num_negatives,
            max_length=32,
        )
        return PairSource(
            order=order, tokenizer=tiny_tokenizer, guides=guides or [None] * max(len(names), 1)
        )

    return make
