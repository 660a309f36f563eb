"""sentence-transformers' own losses, fed embeddings by a stub model. Importing them takes 10 s."""

import torch
from torch import nn

from tests.losses.batches import embeddings_of


class Stub(nn.Module):
    """A model whose features are the embeddings."""

    tokenizer = None

    def forward(self, features):
        return {"sentence_embedding": features["embedding"]}

    def get_embedding_dimension(self):
        return 8


def theirs(name, embeddings, labels=None, **options):
    from sentence_transformers.sentence_transformer import losses

    loss = getattr(losses, name)(Stub(), **options)
    return loss([{"embedding": column} for column in embeddings], labels).float()


def columns_of(number):
    """Embeddings in the precision of theirs."""
    return embeddings_of(columns=number, dtype=torch.float32, seed=3)


def assert_theirs(ours, embeddings, targets, expected):
    torch.testing.assert_close(ours(embeddings, targets), expected, rtol=1e-5, atol=1e-6)
