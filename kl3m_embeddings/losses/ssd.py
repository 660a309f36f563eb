"""Same, similar, different: four chunks of text whose kinship is known from where they stand."""

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.similarity import Similarity


class SSD(PairLoss):
    """Chunks of one document together, of one dataset less so, of another dataset apart.

    log( exp(1 - s(a,a')) + exp(-s(a,b) / 2) + exp(-s(a',b) / 2)
         + sum over x in a, a', b of exp(0.33 (1 + s(x,c))) )

    Inputs:
        four columns: a and a' from one document, b from another one of the same dataset, c from
        another dataset.

    Relations:
        Never 0: its least value, at cosines 1, 1, 1 and -1, is log(1 + 2 exp(-1/2) + 3) = 1.65.
        A quad is its own batch; for negatives from the other quads use InfoNCE.

    Reference:
        https://github.com/alea-institute/kl3m-embedding-research,
        models/roberta/train_contrastive_roberta_single.py.
    """

    takes_products = False
    takes_distances = False

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the quads."""
        same, similar, different = _kinds(embeddings, self.similarity)
        # (6, pairs): the exponents of the formula.
        terms = torch.cat([1 - same, -0.5 * similar, 0.33 * (1 + different)])
        return terms.logsumexp(dim=0).mean()


def mean_similarities(
    embeddings: Float[Tensor, "4 pairs dim"], similarity: Similarity
) -> dict[str, Tensor]:
    """The means that are logged: mean_sim_same, mean_sim_similar, mean_sim_diff."""
    means = [kind.mean() for kind in _kinds(embeddings.detach(), similarity)]
    return dict(zip(("mean_sim_same", "mean_sim_similar", "mean_sim_diff"), means, strict=True))


def _kinds(
    embeddings: Float[Tensor, "4 pairs dim"], similarity: Similarity
) -> tuple[Float[Tensor, "1 pairs"], Float[Tensor, "2 pairs"], Float[Tensor, "3 pairs"]]:
    """Similarities of chunks of the same document, of the same dataset, of different datasets."""
    same, other_same, similar, different = embeddings
    return (
        similarity(same, other_same)[None],
        similarity(embeddings[:2], similar),
        similarity(embeddings[:3], different),
    )
