"""One batch of pairs in parts, in chunks, in micro-batches: the same loss and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.config.tasks import PairsOptions
from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.data.pair_sets.build import build_pair_set
from kl3m_embeddings.data.pair_sets.order import PairOrder
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask
from kl3m_embeddings.tasks.embedding.pairs import Pairs, PairSource, check_loss
from kl3m_embeddings.tasks.objective import Objective
from tests.tiny_model import NO_DROPOUT, TINY_CONFIG

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


@pytest.fixture(scope="session")
def pair_sets(tiny_pair_files, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {
        name: build_pair_set(name, path, tiny_tokenizer, folder).pair_set
        for name, path in tiny_pair_files.items()
    }


def options_of(**changes):
    return PairsOptions.model_validate({"probability": 1.0, **changes})


@pytest.fixture
def make_source(pair_sets, tiny_tokenizer):
    def make(*names, batch_size=8, num_negatives=2, guides=None):
        order = PairOrder.build(
            [pair_sets[name] for name in names or ("train",)],
            seed=1,
            batch_size=batch_size,
            num_negatives=num_negatives,
            max_length=32,
        )
        return PairSource(
            order=order, tokenizer=tiny_tokenizer, guides=guides or [None] * max(len(names), 1)
        )

    return make


def make_engine(task, **config):
    architecture = AutoConfig.for_model(**TINY_CONFIG | config)
    losses = {"pairs": task.loss}
    encoder = build_encoder(architecture, seed=0)
    objective = Objective(encoder, pair_head=False, losses=losses)
    optimizers = build_optimizers(objective.named_parameters(), OptimizerConfig(total_steps=10))
    return SingleEngine(objective, optimizers, device=torch.device("cpu"), precision="float32")


def gradients(options, batches, **config):
    """The step's loss, its measures, and the gradient of every parameter that has one."""
    task = Pairs(options, 32)
    engine = make_engine(task, **config)
    divisors = {"pairs": float(sum(batch.counts["pairs"] for batch in batches))}
    loss, measures, num_backward = 0.0, {}, 0
    for batch in batches:
        for part in task.losses(engine.forward, batch, divisors):
            engine.backward(part.loss, last=part.is_last)
            num_backward += 1
            loss += part.loss.item()
            for name, value in part.measures.items():
                measures[name] = measures.get(name, 0.0) + value.item()
    named = engine.objective.named_parameters()
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return loss, measures, found, num_backward


def batches_of(options, source, *, count=8, number=1, seed=77):
    task = Pairs(options, 32)
    made = [task.batch(source, n * count, count) for n in range(number)]
    return [replace(batch, dropout_seed=seed) for batch in made]


def assert_same(one, other, rtol=1e-5):
    assert one[0] == pytest.approx(other[0], rel=rtol)
    assert one[1] == pytest.approx(other[1], rel=rtol, abs=1e-6)
    assert one[2].keys() == other[2].keys()
    for name, gradient in one[2].items():
        torch.testing.assert_close(gradient, other[2][name], rtol=rtol, atol=1e-6, msg=name)


@pytest.mark.parametrize("chunk_tokens", [40, 130])
def test_gradcache_has_the_gradients_of_the_whole_batch_with_dropout(
    make_source, monkeypatch, chunk_tokens
):
    """With Matryoshka, hard negatives, a learnt temperature and a margin."""
    source = make_source()
    # so that the masks are the same
    monkeypatch.setattr(EmbeddingTask, "part_tokens", chunk_tokens)
    options = options_of(**EVERYTHING)
    plain = gradients(options, batches_of(options, source))
    cached = options.model_copy(update={"chunk_tokens": chunk_tokens})
    chunked = gradients(cached, batches_of(cached, source))
    assert plain[3] == 1
    assert chunked[3] > 3
    assert_same(chunked, plain)
    assert any("raw_temperature" in name for name in plain[2])
    assert plain[1]["temperature"] == pytest.approx(0.05)


def test_dropout_is_on_and_differs_between_parts(make_source):
    options = options_of()
    source = make_source(num_negatives=0)
    losses = {
        gradients(options, batches_of(options, source, seed=seed))[0] for seed in (1, 2, None)
    }
    assert len(losses) == 3


@pytest.mark.parametrize("part_tokens", [1, 100, 10_000])
def test_how_rows_are_put_into_parts_does_not_matter(make_source, monkeypatch, part_tokens):
    options, source = options_of(**EVERYTHING), make_source()
    whole = gradients(options, batches_of(options, source), **NO_DROPOUT)
    monkeypatch.setattr(EmbeddingTask, "part_tokens", part_tokens)
    assert_same(gradients(options, batches_of(options, source), **NO_DROPOUT), whole, rtol=1e-4)


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


def test_the_texts_are_those_of_the_file(make_source, pair_sets, tiny_tokenizer):
    source, options = make_source(), options_of(num_negatives=2, seq_len=12)
    (batch,) = batches_of(options, source)
    rows = source.order.batch(0)
    ids = np.stack([rows.queries, rows.positives, *rows.negatives.T]).reshape(-1)
    assert batch.input_ids.shape == (32, int(batch.attention_mask.sum(dim=1).max()))
    for text, row, mask in zip(ids, batch.input_ids, batch.attention_mask, strict=True):
        tokens = pair_sets["train"].texts.document_tokens(int(text))[:10].tolist()
        framed = [tiny_tokenizer.cls_id, *tokens, tiny_tokenizer.sep_id]
        assert row[mask > 0].tolist() == framed
    info = batch.info
    assert info.samples_by_dataset == {"train": 8}
    assert info.tokens_by_dataset == {"train": int(batch.attention_mask.sum())}
    assert info.documents == {"train": [f"train.jsonl:{row + 1}" for row in rows.rows]}


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


def test_a_ranks_rows_are_its_slice(make_source):
    options = options_of(num_negatives=2)
    whole = Pairs(options, 32).batch(make_source(), 8, 8)
    halves = [Pairs(options, 32).batch(make_source(), first, 4) for first in (8, 12)]
    ids = torch.cat([half.pair_targets.text_ids for half in halves], dim=1)
    assert torch.equal(ids, whole.pair_targets.text_ids)


def test_a_guide_decides_what_is_a_false_negative(make_source, pair_sets):
    options = options_of(loss={"false_negative_margin": 0.0})
    num_texts = pair_sets["train"].num_texts
    alike, random = np.ones((num_texts, 3)), np.random.default_rng(0).normal(size=(num_texts, 3))
    alike[:, 0] += np.arange(num_texts) * 1e-9
    losses = []
    for vectors in (alike, random):
        source = make_source(num_negatives=0, guides=[vectors.astype(np.float32)])
        losses.append(gradients(options, batches_of(options, source))[0])
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"loss": "triplet"}, "train", "num_negatives"),
        ({"loss": "cosent"}, "train", "nothing to tell apart"),
        ({"loss": "infonce"}, "graded", "labels would be ignored"),
        ({"loss": "cosent", "num_negatives": 1}, "graded", "belongs to two texts"),
        ({"loss": "margin_mse", "num_negatives": 1}, "train", "teacher"),
    ],
)
def test_a_set_that_does_not_fit_the_loss_is_refused(pair_sets, changes, name, message):
    with pytest.raises(ConfigError, match=message) as error:
        check_loss(options_of(**changes), [pair_sets[name]])
    assert str(error.value).startswith(
        f"tasks.pairs.loss: {options_of(**changes).loss.name}: pairs."
    )


def test_labels_beyond_1_are_refused_where_they_are_a_cosine(pair_sets):
    high = replace(pair_sets["graded"], labels=pair_sets["graded"].labels * 5)
    with pytest.raises(ConfigError, match="beyond 0 to 1"):
        check_loss(options_of(loss="cosine"), [high])
    check_loss(options_of(loss="cosent"), [high])
    check_loss(options_of(loss="cosine"), [pair_sets["graded"]])


@pytest.mark.parametrize("loss", ["cosent", "cosine", "contrastive", "online_contrastive"])
def test_labels_that_are_all_equal_are_refused(pair_sets, loss):
    equal = replace(pair_sets["graded"], labels=np.full_like(pair_sets["graded"].labels, 0.5))
    with pytest.raises(ConfigError, match=r"its labels are all 0\.5, .* add rows with others"):
        check_loss(options_of(loss=loss), [equal])
    check_loss(options_of(loss=loss), [pair_sets["graded"]])


@pytest.mark.parametrize("loss", ["cosent", "cosine", "contrastive", "online_contrastive"])
def test_graded_pairs_train(make_source, loss):
    options = options_of(loss=loss)
    source = make_source("graded", num_negatives=0)
    value, measures, found, _ = gradients(options, batches_of(options, source))
    assert np.isfinite(value)
    assert measures == {}
    assert any(gradient.abs().sum() > 0 for gradient in found.values())
