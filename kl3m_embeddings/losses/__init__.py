"""What pulls embeddings together and pushes them apart: one file a loss, and the table of them.

Every loss is a module, `loss(embeddings, targets)`, that says of itself what it needs (`base.py`):

- embeddings: shape (columns, pairs, dim), not normalised. Column 0 holds anchors, column 1 their
  positives, further columns hard negatives, if there are any.
- targets: what else is known of the pairs; see `targets.py`.
- It returns the mean over this device's pairs, in fp32 whatever autocast says.

In their formulas a is an anchor, p its positive, n a hard negative, s(a,p) how alike two vectors
are: the cosine, or what `similarity` names. y is a label, t a temperature. `build.py` makes a loss
for how a run compares vectors.

`matryoshka.py` wraps any of them; `gradcache.py` bounds the memory of any of them.
"""

from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.contrastive import Contrastive
from kl3m_embeddings.losses.cosent import CoSENT
from kl3m_embeddings.losses.cosine import Cosine
from kl3m_embeddings.losses.infonce import InfoNCE
from kl3m_embeddings.losses.kl_distillation import KLDistillation
from kl3m_embeddings.losses.margin_mse import MarginMSE
from kl3m_embeddings.losses.online_contrastive import OnlineContrastive
from kl3m_embeddings.losses.ssd import SSD
from kl3m_embeddings.losses.triplet import Triplet

LOSSES: dict[str, type[PairLoss]] = {
    "infonce": InfoNCE,
    "cosine": Cosine,
    "contrastive": Contrastive,
    "online_contrastive": OnlineContrastive,
    "triplet": Triplet,
    "cosent": CoSENT,
    "margin_mse": MarginMSE,
    "kl_distillation": KLDistillation,
    "ssd": SSD,
}
