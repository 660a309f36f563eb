"""What holds for every loss of the table."""

import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses import LOSSES
from tests.losses.batches import embeddings_of, targets_for

VARIANTS = [(name, {}) for name in LOSSES] + [
    ("infonce", {"symmetric": True, "learn_temperature": True, "false_negative_margin": 0.1}),
    ("kl_distillation", {"similarity": "dot", "student_temperature": 2.0}),
    ("margin_mse", {"similarity": "dot"}),
    ("contrastive", {"similarity": "euclidean", "margin": 4.0}),
    ("online_contrastive", {"similarity": "manhattan", "margin": 9.0}),
    *[
        (name, {"similarity": similarity, **options})
        for similarity in ("dot", "euclidean", "manhattan")
        for name, options in (
            ("infonce", {"temperature": 1.0}),
            ("cosent", {"temperature": 1.0}),
            ("triplet", {"margin": 1.0}),
        )
    ],
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_gradients_are_those_of_finite_differences(name, options):
    embeddings = embeddings_of(name)
    loss, targets = LOSSES[name](**options), targets_for(embeddings)
    assert torch.autograd.gradcheck(lambda inputs: loss(inputs, targets), embeddings)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_the_order_of_pairs_is_nothing_to_the_loss(name, options):
    embeddings = embeddings_of(name)
    targets = targets_for(embeddings)
    order = torch.randperm(embeddings.shape[1], generator=torch.Generator().manual_seed(2))
    permuted = PairTargets(
        labels=None if targets.labels is None else targets.labels[order],
        teacher_scores=targets.teacher_scores[order],
        text_groups=targets.text_groups[:, order],
    )
    loss = LOSSES[name](**options)
    value = loss(embeddings, targets)
    assert value > 0
    torch.testing.assert_close(loss(embeddings[:, order], permuted), value)


@pytest.mark.parametrize("name", LOSSES)
def test_bf16_embeddings_under_autocast_lose_no_more_than_their_own_rounding(name):
    embeddings = embeddings_of(name, dtype=torch.float32).bfloat16()
    targets = targets_for(embeddings)
    loss = LOSSES[name]()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(embeddings, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(embeddings.float(), targets), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("pairs", [1, 2])
def test_the_smallest_batches_and_equal_texts_have_finite_gradients(name, options, pairs):
    for embeddings in (
        embeddings_of(name, pairs=pairs, dtype=torch.float32),
        torch.ones_like(embeddings_of(name, pairs=pairs), dtype=torch.float32).requires_grad_(),
        torch.zeros_like(embeddings_of(name, pairs=pairs), dtype=torch.float32).requires_grad_(),
    ):
        loss = LOSSES[name](**options)
        value = loss(embeddings, targets_for(embeddings))
        value.backward()
        assert value.isfinite()
        assert embeddings.grad.isfinite().all()
        assert all(parameter.grad.isfinite() for parameter in loss.parameters())
