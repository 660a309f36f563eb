"""What a batch is and which loss it asks for: one file a task, and the table that names them."""

from typing import Any

from kl3m_embeddings.tasks.embedding.base import EmbeddingTask
from kl3m_embeddings.tasks.embedding.crop import Crop
from kl3m_embeddings.tasks.embedding.ict import InverseCloze
from kl3m_embeddings.tasks.embedding.pairs import Pairs
from kl3m_embeddings.tasks.embedding.simcse import SimCSE
from kl3m_embeddings.tasks.embedding.ssd import SameSimilarDifferent
from kl3m_embeddings.tasks.masked.base import MaskedTask
from kl3m_embeddings.tasks.masked.mhm import MaskedHeadingModelling
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.masked.nlp import NextLinePrediction
from kl3m_embeddings.tasks.masked.nsp import NextSegmentPrediction

TASKS: dict[str, type[MaskedTask[Any]] | type[EmbeddingTask[Any, Any]]] = {
    "mlm": MaskedLanguageModelling,
    "nsp": NextSegmentPrediction,
    "nlp": NextLinePrediction,
    "mhm": MaskedHeadingModelling,
    "crop": Crop,
    "ict": InverseCloze,
    "simcse": SimCSE,
    "ssd": SameSimilarDifferent,
    "pairs": Pairs,
}
