"""What every loss of embeddings is, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.similarity import SIMILARITIES


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How a run compares vectors, in training and whenever they are measured or used."""

    similarity: SimilarityName = "cosine"
    unit_length: bool = False
    """Whether the vectors have length 1."""

    @property
    def in_unit_range(self) -> bool:
        """Whether similarities lie from -1 to 1, or from -2 to 0: as cosines, and of their size."""
        return self.similarity == "cosine" or (self.unit_length and self.similarity != "manhattan")


BY_COSINE = Compared()


class PairLoss(nn.Module):
    """Compares the embeddings of a batch; see this package's docstring.

    Attributes:
        takes_labels: Whether it looks at the pairs' labels.
        labels_end_at_1: Whether these must lie from 0 to 1; otherwise any numbers are in order.
        has_in_batch_negatives: Whether the batch's other texts are negatives, so that pairs alone,
            without labels or hard negatives, can be trained on.
        needs_two_pairs: Whether a pair alone has loss 0.
        needs_scores: Whether it imitates a teacher's scores.
        takes_products: Whether it can do with products of vectors of any length, which have no
            bound.
        takes_distances: Whether it can do with distances, whose similarities are never above 0.
        fits_margins: Whether differences of similarities should be differences of a teacher's.
        beyond_unit_range: Its options whose default is for similarities in `Compared`'s unit range:
            what is the default of others; None: there is none.
    """

    takes_labels: ClassVar[bool] = False
    labels_end_at_1: ClassVar[bool] = False
    has_in_batch_negatives: ClassVar[bool] = False
    needs_two_pairs: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    takes_products: ClassVar[bool] = True
    takes_distances: ClassVar[bool] = True
    fits_margins: ClassVar[bool] = False
    beyond_unit_range: ClassVar[Mapping[str, float | None]] = MappingProxyType({})

    def __init__(self, *, similarity: SimilarityName = "cosine") -> None:
        """Set how vectors are compared."""
        super().__init__()
        self.similarity = SIMILARITIES[similarity]

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """The mean over this device's pairs, in fp32."""
        raise NotImplementedError
