"""Random embeddings and targets that every loss can take."""

import torch

from kl3m_embeddings.data.batch import PairTargets

NUM_COLUMNS = {"cosine": 2, "contrastive": 2, "online_contrastive": 2, "cosent": 2}


def embeddings_of(loss="infonce", *, columns=None, pairs=6, dim=8, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    columns = columns or NUM_COLUMNS.get(loss, 4)
    return torch.randn(columns, pairs, dim, generator=generator, dtype=dtype).requires_grad_()


def targets_for(embeddings, seed=1):
    """Labels with ties, teacher scores, no equal texts."""
    columns, pairs, _ = embeddings.shape
    generator = torch.Generator().manual_seed(seed)
    return PairTargets(
        labels=torch.randint(2, (pairs,), generator=generator).float() if columns == 2 else None,
        teacher_scores=torch.randn(pairs, columns - 1, generator=generator),
        text_groups=torch.arange(columns * pairs).reshape(columns, pairs),
    )
