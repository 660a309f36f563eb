"""The task that held-out text is drawn for, and a run that is never stopped."""

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling

# whole words: samples differ in their number of targets
MLM = MaskedLanguageModelling(MlmOptions(probability=1.0, masking="word"))


def never():
    return False
