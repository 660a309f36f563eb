"""One batch of pairs in parts, in chunks, in micro-batches: the same loss and gradients."""

import numpy as np
import pytest
import torch

from kl3m_embeddings.tasks.embedding.pairs import Pairs
from tests.tasks.embedding.steps import assert_same, batches_of, gradients, make_engine, options_of
from tests.tiny_model import NO_DROPOUT

EVERYTHING = {
    "loss": {
        "name": "infonce",
        "learn_temperature": True,
        "symmetric": True,
        "false_negative_margin": 0.1,
    },
    "matryoshka_dims": [32, 8],
    "matryoshka_weights": [1.0, 0.5],
    "num_negatives": 2,
}


@pytest.mark.parametrize("chunk_tokens", [40, 130])
def test_gradcache_has_the_gradients_of_the_whole_batch_with_dropout(make_source, chunk_tokens):
    """With Matryoshka, hard negatives, a learnt temperature and a margin."""
    source = make_source()
    options = options_of(**EVERYTHING)
    plain = gradients(options, batches_of(options, source))
    cached = options.model_copy(update={"chunk_tokens": chunk_tokens})
    chunked = gradients(cached, batches_of(cached, source))
    assert plain[3] == 1
    assert chunked[3] > 3
    assert_same(chunked, plain, rtol=1e-4)
    assert any("raw_temperature" in name for name in plain[2])
    assert plain[1]["temperature"] == pytest.approx(0.05)


def test_dropout_is_on_and_follows_its_key(make_source):
    options = options_of()
    source = make_source(num_negatives=0)
    losses = {
        gradients(options, batches_of(options, source, seed=seed))[0] for seed in (1, 2, None)
    }
    assert len(losses) == 3


@pytest.mark.parametrize("part_tokens", [1, 100, 10_000])
def test_how_rows_are_put_into_parts_does_not_matter(make_source, part_tokens):
    options, source = options_of(**EVERYTHING), make_source()
    whole = gradients(options, batches_of(options, source))
    batches = batches_of(options, source, part_tokens=part_tokens)
    num_parts, num_rows = len(batches[0].parts), len(batches[0].input_ids)
    assert num_parts in {1: [num_rows], 100: range(2, num_rows), 10_000: [1]}[part_tokens]
    assert_same(gradients(options, batches), whole, rtol=1e-4)


def test_the_loss_is_that_of_the_texts_alone(make_source):
    """Embedded one by one, without padding, as sentence-transformers would."""
    options, source = options_of(num_negatives=2), make_source()
    (batch,) = batches_of(options, source, seed=None)
    task = Pairs(options, 32)
    engine = make_engine(task)
    (part,) = task.losses(engine.forward, batch, {"pairs": 8.0})
    encoder = engine.objective.encoder.eval()
    vectors = []
    for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        ids = row[: int(mask.sum())][None]
        assert ids[0, 0] == source.tokenizer.cls_id
        assert ids[0, -1] == source.tokenizer.sep_id
        vectors.append(encoder.hidden_states(ids, torch.ones_like(ids))[0].mean(dim=0))
    vectors = torch.nn.functional.normalize(torch.stack(vectors), dim=-1)
    scores = vectors[:8] @ vectors[8:].T / 0.05
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(8))
    assert part.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    accuracy = (scores.argmax(dim=1) == torch.arange(8)).float().mean()
    assert part.measures["accuracy"].item() == pytest.approx(accuracy.item())


def test_micro_batches_add_up_to_the_step(make_source):
    """The mean over all pairs, each against its own micro-batch."""
    options, source = options_of(num_negatives=2), make_source(batch_size=4)
    batches = batches_of(options, source, count=4, number=3)
    together = gradients(options, batches, **NO_DROPOUT)
    apart = [gradients(options, [batch], **NO_DROPOUT) for batch in batches]
    assert together[0] == pytest.approx(np.mean([one[0] for one in apart]), rel=1e-5)
    for name, gradient in together[2].items():
        mean = torch.stack([one[2][name] for one in apart]).mean(dim=0)
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6)
