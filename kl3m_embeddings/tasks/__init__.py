"""What a batch is and which loss it asks for: one file a task, and the table that names them."""

from collections.abc import Callable
from typing import Any

from kl3m_embeddings.tasks.base import Task
from kl3m_embeddings.tasks.mhm import MaskedHeadingModelling
from kl3m_embeddings.tasks.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.nlp import NextLinePrediction
from kl3m_embeddings.tasks.nsp import NextSegmentPrediction

TASKS: dict[str, Callable[[Any], Task]] = {
    "mlm": MaskedLanguageModelling,
    "nsp": NextSegmentPrediction,
    "nlp": NextLinePrediction,
    "mhm": MaskedHeadingModelling,
}
