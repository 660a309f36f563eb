"""What every loss of embeddings is, and what it says of itself."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from kl3m_embeddings.data.batch import PairTargets


class PairLoss(nn.Module):
    """Compares the embeddings of a batch; see this package's docstring.

    Attributes:
        takes_labels: Whether it looks at the pairs' labels.
        labels_end_at_1: Whether these must lie from 0 to 1; otherwise any numbers are in order.
        has_in_batch_negatives: Whether the batch's other texts are negatives, so that pairs alone,
            without labels or hard negatives, can be trained on.
        needs_two_pairs: Whether a pair alone has loss 0.
        needs_scores: Whether it imitates a teacher's scores.
    """

    takes_labels: ClassVar[bool] = False
    labels_end_at_1: ClassVar[bool] = False
    has_in_batch_negatives: ClassVar[bool] = False
    needs_two_pairs: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """The mean over this device's pairs, in fp32."""
        raise NotImplementedError
