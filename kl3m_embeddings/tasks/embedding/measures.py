"""What a batch of pairs tells beside its loss: in-batch accuracy, and mean cosines."""

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.gather import first_row, gather
from kl3m_embeddings.losses.infonce import partner_groups
from kl3m_embeddings.losses.similarity import all_dots, normalised


@torch.no_grad()
def in_batch_measures(
    embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
) -> dict[str, Tensor]:
    """Means over this device's anchors: accuracy, mean_sim_positive, mean_sim_negative.

    `accuracy` is the share of anchors to which no other text of the batch, on any device, is as
    similar as their positive. As in InfoNCE, texts that equal the anchor or its positive do not
    count as others, nor do positives of equal anchors. A collective: all devices call it.
    """
    vectors = normalised(embeddings)
    num_pairs = vectors.shape[1]
    # Candidates are all devices' columns 1 and on; `own` is where an anchor's own positive is.
    own = first_row((len(vectors) - 1) * num_pairs) + torch.arange(num_pairs, device=vectors.device)
    cosines = all_dots(vectors[0], gather(vectors[1:].flatten(0, 1)))
    positives = cosines.gather(1, own[:, None])[:, 0]
    others = torch.ones_like(cosines, dtype=torch.bool).scatter_(1, own[:, None], False)
    if targets.text_groups is not None:
        anchors, candidates = targets.text_groups[0], gather(targets.text_groups[1:].flatten())
        others &= candidates != anchors[:, None]
        others &= candidates != targets.text_groups[1][:, None]
        partners = gather(partner_groups(targets.text_groups)[1:].flatten())
        others &= partners != anchors[:, None]
    # -2 is below any cosine: an anchor without others is right.
    best_other = cosines.masked_fill(~others, -2.0).amax(dim=1)
    return {
        "accuracy": (positives > best_other).float().mean(),
        "mean_sim_positive": positives.mean(),
        "mean_sim_negative": (cosines * others).sum() / others.sum().clamp(min=1),
    }
