"""What a batch is and which loss it asks for: one file a task, and the tables that name them."""

from collections.abc import Callable
from typing import Any

from kl3m_embeddings.tasks.base import Task
from kl3m_embeddings.tasks.crop import Crop
from kl3m_embeddings.tasks.embedding import EmbeddingTask
from kl3m_embeddings.tasks.ict import InverseCloze
from kl3m_embeddings.tasks.mhm import MaskedHeadingModelling
from kl3m_embeddings.tasks.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.nlp import NextLinePrediction
from kl3m_embeddings.tasks.nsp import NextSegmentPrediction
from kl3m_embeddings.tasks.pairs import Pairs
from kl3m_embeddings.tasks.simcse import SimCSE
from kl3m_embeddings.tasks.ssd import SameSimilarDifferent

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
