"""What a loss takes out of its targets, and the errors where they do not have it."""

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses.similarity import Similarity


def labelled_similarities(
    embeddings: Float[Tensor, "columns pairs dim"],
    targets: PairTargets,
    loss: str,
    similarity: Similarity,
) -> tuple[Float[Tensor, " scored"], Float[Tensor, " scored"]]:
    """Similarities of anchors with other texts, and the label of each.

    Without labels, positives count as 1 and hard negatives as 0.

    Raises:
        ConfigError: there are neither labels nor negatives, or there are both.
    """
    alike = similarity(embeddings[0], embeddings[1:])
    has_negatives = len(alike) > 1
    if targets.labels is None:
        if not has_negatives:
            raise ConfigError(
                f"loss {loss}: the pairs have neither labels nor negatives to tell apart: "
                "add a label or score column, or choose infonce"
            )
        labels = torch.zeros_like(alike)
        labels[0] = 1.0
        return alike.flatten(), labels.flatten()
    if has_negatives:
        raise ConfigError(
            f"loss {loss}: a label belongs to two texts, and the rows have negatives too: "
            "set num_negatives to 0, or leave the label column out"
        )
    return alike[0], targets.labels.to(alike.dtype)


def hard_negatives(
    embeddings: Float[Tensor, "columns pairs dim"], loss: str
) -> Float[Tensor, "negatives pairs dim"]:
    """Columns 2 and on.

    Raises:
        ConfigError: there are none.
    """
    if len(embeddings) < 3:
        raise ConfigError(
            f"loss {loss}: the pairs have no negatives: mine some and set num_negatives, "
            "or choose infonce, whose negatives are the other pairs"
        )
    return embeddings[2:]


def scores_of_teacher(
    embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets, loss: str
) -> Float[Tensor, "pairs candidates"]:
    """The teacher's scores of the positive and the negatives.

    Raises:
        ConfigError: there are none, or there is no negative.
    """
    hard_negatives(embeddings, loss)
    if targets.teacher_scores is None:
        raise ConfigError(
            f"loss {loss}: the pairs have no teacher scores: add them (negscore), "
            "or choose infonce or triplet"
        )
    assert targets.teacher_scores.shape == (embeddings.shape[1], len(embeddings) - 1)
    return targets.teacher_scores
