import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig

from kl3m_embeddings.config.tasks import MlmOptions, NspOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.masked.nsp import NextSegmentPrediction
from kl3m_embeddings.tasks.objective import Objective
from tests.tiny_model import TINY_CONFIG


@pytest.fixture
def make_objective():
    def make(**settings):
        config = AutoConfig.for_model(**TINY_CONFIG | {"initializer_range": 0.2})
        return Objective(build_encoder(config, seed=0), **settings).eval()

    return make


@pytest.fixture
def pairs(make_sources):
    """A batch of pairs, one of them unlabelled, with filling targets."""
    task = NextSegmentPrediction(NspOptions(probability=1.0))
    batch = task.batch(make_sources()[0], 0, 8)
    batch.segment_labels[3] = torch.nan
    batch.target_labels[-3:] = IGNORED_LABEL
    batch.target_positions[-3:] = 0
    return batch


def test_losses_are_sums_over_the_targets(make_objective, pairs):
    objective = make_objective(pair_head=True)
    outputs = objective(pairs)
    encoder = objective.encoder
    states = encoder.hidden_states(pairs.input_ids, pairs.attention_mask)
    logits = encoder.target_logits(states.flatten(0, 1)[pairs.target_positions])
    expected = F.cross_entropy(logits, pairs.target_labels, reduction="sum")
    assert outputs.loss_sums["mlm"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert outputs.target_losses[-3:].tolist() == [0, 0, 0]
    correct = (logits.argmax(1) == pairs.target_labels).sum()
    assert outputs.num_correct == correct
    known = [row for row in range(8) if not pairs.segment_labels[row].isnan()]
    pair_logits = objective.pair_head(states[known, 0])[:, 0]
    expected = F.binary_cross_entropy_with_logits(
        pair_logits, pairs.segment_labels[known], reduction="sum"
    )
    assert outputs.loss_sums["nsp"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_fills_the_targets_changes_no_gradient(make_objective, pairs):
    gradients = []
    for num_fillers in (0, 3):
        objective = make_objective(pair_head=True)
        size = len(pairs.target_labels) - 3 + num_fillers
        batch = type(pairs)(
            **{name: getattr(pairs, name) for name in pairs.__dataclass_fields__}
            | {
                "target_positions": pairs.target_positions[:size],
                "target_labels": pairs.target_labels[:size],
            }
        )
        objective(batch).loss_sums["mlm"].backward()
        gradients.append([p.grad for p in objective.encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_pairs_that_say_nothing_have_no_gradient(make_objective, pairs):
    objective = make_objective(pair_head=True)
    pairs.segment_labels[:] = torch.nan
    loss = objective(pairs).loss_sums["nsp"]
    loss.backward()
    assert loss.item() == 0
    assert objective.pair_head.weight.grad.abs().sum() == 0


def test_reduced_dim_hides_the_other_embedding_dimensions(make_objective, make_sources):
    objective = make_objective(pair_head=False)
    batch = MaskedLanguageModelling(MlmOptions(probability=1.0)).batch(make_sources()[0], 0, 4)
    mask = (torch.arange(32) < 8).float()
    object.__setattr__(batch, "embedding_mask", mask)
    with torch.no_grad():
        before = objective(batch).loss_sums["mlm"]
        full = objective.encoder.hidden_states(batch.input_ids, batch.attention_mask)
        reduced = objective.encoder.hidden_states(batch.input_ids, batch.attention_mask, mask)
    assert not torch.allclose(full, reduced)
    object.__setattr__(batch, "embedding_mask", None)
    with torch.no_grad():
        assert before != objective(batch).loss_sums["mlm"]


def test_heads_are_drawn_from_the_seed(make_objective):
    heads = [make_objective(pair_head=True, seed=seed).pair_head.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert make_objective(pair_head=False).pair_head is None
