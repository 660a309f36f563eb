"""What all masked tasks share."""

import pytest
import torch

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import Batch, BatchInfo
from kl3m_embeddings.tasks.base import Forward, Outputs, StepTotals
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling


@pytest.fixture
def task():
    return MaskedLanguageModelling(MlmOptions(probability=1.0))


def test_a_step_is_each_sum_over_its_number_of_targets(task):
    outputs = Outputs({"mlm": torch.tensor(6.0), "pair": torch.tensor(1.0)})
    info = BatchInfo(task="x", samples_by_dataset={}, tokens_by_dataset={}, documents={})
    ids = torch.zeros(1, 1, dtype=torch.long)
    batch = Batch(input_ids=ids, attention_mask=ids, info=info)

    def forward(batch, *, grad=True):
        return outputs

    (part,) = task.losses(forward, batch, {"mlm": 3.0, "pair": 4.0})
    assert (part.loss.item(), part.is_last, part.measures) == (6 / 3 + 1 / 4, True, {})
    assert isinstance(forward, Forward)


@pytest.mark.parametrize(("num_targets", "accuracy"), [(4.0, 0.75), (0.0, 3.0)])
def test_the_log_says_how_many_targets_were_right(task, num_targets, accuracy):
    """Without targets, which a step can be, nothing is divided by 0."""
    divisors = {"mlm": num_targets, "nsp": 2.0}
    totals = StepTotals(divisors=divisors, num_correct=3, measures={}, num_clashes=0)
    assert task.outcome(totals) == {"accuracy": accuracy, "num_targets": int(num_targets)}
