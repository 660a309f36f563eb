"""What a batch of pairs tells beside its loss: in-batch accuracy, and mean similarities."""

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.gather import first_row, gather
from kl3m_embeddings.losses.infonce import partner_groups
from kl3m_embeddings.losses.similarity import Similarity


@torch.no_grad()
def in_batch_measures(
    embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets, similarity: Similarity
) -> dict[str, Tensor]:
    """Means over this device's anchors: accuracy, mean_sim_positive, mean_sim_negative.

    `accuracy` is the share of anchors to which no other text of the batch, on any device, is as
    similar as their positive. As in InfoNCE, texts that equal the anchor or its positive do not
    count as others, nor do positives of equal anchors. A collective: all devices call it.
    """
    vectors = similarity.prepared(embeddings)
    num_pairs = vectors.shape[1]
    # Candidates are all devices' columns 1 and on; `own` is where an anchor's own positive is.
    own = first_row((len(vectors) - 1) * num_pairs) + torch.arange(num_pairs, device=vectors.device)
    alike = similarity.of_all(vectors[0], gather(vectors[1:].flatten(0, 1)))
    positives = alike.gather(1, own[:, None])[:, 0]
    others = torch.ones_like(alike, dtype=torch.bool).scatter_(1, own[:, None], False)
    if targets.text_groups is not None:
        anchors, candidates = targets.text_groups[0], gather(targets.text_groups[1:].flatten())
        others &= candidates != anchors[:, None]
        others &= candidates != targets.text_groups[1][:, None]
        partners = gather(partner_groups(targets.text_groups)[1:].flatten())
        others &= partners != anchors[:, None]
    # Below any similarity: an anchor without others is right.
    best_other = alike.masked_fill(~others, -torch.inf).amax(dim=1)
    return {
        "accuracy": (positives > best_other).float().mean(),
        "mean_sim_positive": positives.mean(),
        "mean_sim_negative": (alike * others).sum() / others.sum().clamp(min=1),
    }
