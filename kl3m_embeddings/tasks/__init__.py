"""What a batch is and which loss it asks for: one file a task, and the tables that name them."""

from collections.abc import Callable
from typing import Any

from kl3m_embeddings.tasks.base import Task
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask
from kl3m_embeddings.tasks.embedding.crop import Crop
from kl3m_embeddings.tasks.embedding.ict import InverseCloze
from kl3m_embeddings.tasks.embedding.pairs import Pairs
from kl3m_embeddings.tasks.embedding.simcse import SimCSE
from kl3m_embeddings.tasks.embedding.ssd import SameSimilarDifferent
from kl3m_embeddings.tasks.masked.mhm import MaskedHeadingModelling
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.masked.nlp import NextLinePrediction
from kl3m_embeddings.tasks.masked.nsp import NextSegmentPrediction

MASKED_TASKS: dict[str, Callable[[Any], Task[Any]]] = {
    "mlm": MaskedLanguageModelling,
    "nsp": NextSegmentPrediction,
    "nlp": NextLinePrediction,
    "mhm": MaskedHeadingModelling,
}
EMBEDDING_TASKS: dict[str, Callable[[Any, int], EmbeddingTask[Any]]] = {
    "crop": Crop,
    "ict": InverseCloze,
    "simcse": SimCSE,
    "ssd": SameSimilarDifferent,
    "pairs": Pairs,
}
