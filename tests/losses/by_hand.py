"""Losses written out in numpy: cosines pair by pair, and labels to compare them with."""

import numpy as np
import torch

from kl3m_embeddings.data.batch import PairTargets

GRADED = torch.tensor([0.2, 0.9, 0.9, 0.0, 1.0, 0.4])
BINARY = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])


def cosine(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


ALIKE = {
    "cosine": cosine,
    "dot": np.dot,
    "euclidean": lambda first, second: -np.linalg.norm(first - second),
    "manhattan": lambda first, second: -np.abs(first - second).sum(),
}


def cosines_of(embeddings):
    anchors, others = embeddings.detach().numpy()[:2]
    return [cosine(*pair) for pair in zip(anchors, others, strict=True)]


def student_scores(embeddings, similarity):
    """Of each anchor with its positive and each of its negatives."""
    anchors, *candidates = embeddings.detach().numpy()
    measure = ALIKE[similarity]
    return np.array(
        [[measure(anchors[i], column[i]) for column in candidates] for i in range(len(anchors))]
    )


def value(loss, embeddings, **targets):
    return loss(embeddings, PairTargets(**targets)).item()
