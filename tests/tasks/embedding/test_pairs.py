from dataclasses import replace

import numpy as np
import pytest
import torch

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses.base import Compared
from kl3m_embeddings.tasks.embedding.pairs import Pairs, check_loss
from tests.tasks.embedding.steps import batches_of, gradients, options_of


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


def test_a_ranks_rows_are_its_slice(make_source):
    options = options_of(num_negatives=2)
    whole = Pairs(options, 32).batch(make_source(), 8, 8)
    halves = [Pairs(options, 32).batch(make_source(), first, 4) for first in (8, 12)]
    ids = torch.cat([half.pair_targets.text_groups for half in halves], dim=1)
    assert torch.equal(ids, whole.pair_targets.text_groups)


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
        check_loss(options_of(**changes), [pair_sets[name]], Compared())
    assert str(error.value).startswith(
        f"tasks.pairs.loss: {options_of(**changes).loss.name}: pairs."
    )


def test_labels_beyond_1_are_refused_where_they_are_a_cosine(pair_sets):
    high = replace(pair_sets["graded"], labels=pair_sets["graded"].labels * 5)
    with pytest.raises(ConfigError, match="beyond 0 to 1"):
        check_loss(options_of(loss="cosine"), [high], Compared())
    check_loss(options_of(loss="cosent"), [high], Compared())
    check_loss(options_of(loss="cosine"), [pair_sets["graded"]], Compared())


@pytest.mark.parametrize(
    ("compared", "scale", "is_refused"),
    [
        (Compared(), 10, True),
        (Compared(), 1, False),
        (Compared(similarity="dot"), 10, False),
        (Compared(similarity="dot", unit_length=True), 10, True),
        (Compared(similarity="euclidean", unit_length=True), 10, True),
        (Compared(similarity="euclidean"), 10, False),
    ],
)
def test_a_teachers_margins_must_be_in_reach(pair_sets, compared, scale, is_refused):
    """Three of four are the scale."""
    pairs = pair_sets["train"]
    negatives = np.zeros(len(pairs.negatives), np.float32)
    negatives[::4] = scale / 2
    scored = replace(
        pairs,
        positive_scores=np.full(len(pairs.positives), scale, np.float32),
        negative_scores=negatives,
    )
    options = options_of(loss="margin_mse", num_negatives=1)
    if not is_refused:
        check_loss(options, [scored], compared)
        return
    with pytest.raises(ConfigError, match=r"margins are 10 or more.*set similarity to dot"):
        check_loss(options, [scored], compared)
    check_loss(options_of(loss="kl_distillation", num_negatives=1), [scored], compared)


@pytest.mark.parametrize("loss", ["cosent", "cosine", "contrastive", "online_contrastive"])
def test_labels_that_are_all_equal_are_refused(pair_sets, loss):
    equal = replace(pair_sets["graded"], labels=np.full_like(pair_sets["graded"].labels, 0.5))
    with pytest.raises(ConfigError, match=r"its labels are all 0\.5, .* add rows with others"):
        check_loss(options_of(loss=loss), [equal], Compared())
    check_loss(options_of(loss=loss), [pair_sets["graded"]], Compared())


@pytest.mark.parametrize("loss", ["cosent", "cosine", "contrastive", "online_contrastive"])
def test_graded_pairs_train(make_source, loss):
    options = options_of(loss=loss)
    source = make_source("graded", num_negatives=0)
    value, measures, found, _ = gradients(options, batches_of(options, source))
    assert np.isfinite(value)
    assert measures == {}
    assert any(gradient.abs().sum() > 0 for gradient in found.values())
