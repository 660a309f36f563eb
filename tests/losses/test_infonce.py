import math

import numpy as np
import pytest
import torch
from torch import nn

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses.infonce import MIN_TEMPERATURE, InfoNCE
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import ALIKE
from tests.losses.theirs import Stub, assert_theirs, columns_of, theirs

NO_TARGETS = PairTargets()


def by_hand(
    embeddings,
    *,
    temperature=0.05,
    ids=None,
    margin=None,
    relative=False,
    guide=None,
    swap=False,
    similarity="cosine",
    guide_similarity=None,
):
    """The mean over anchors of -log softmax, one candidate after the other."""
    alike, guide_alike = ALIKE[similarity], ALIKE[guide_similarity or similarity]
    columns = embeddings.detach().numpy()
    guides = columns if guide is None else guide.numpy()
    num_columns, num_pairs, _ = columns.shape
    query, keys = (1, [0]) if swap else (0, range(1, num_columns))
    own = keys[0]
    losses = []
    for i in range(num_pairs):
        positive_guide = guide_alike(guides[query, i], guides[own, i])
        bound = math.inf
        if margin is not None:
            bound = positive_guide + margin * (abs(positive_guide) if relative else 1)
        total = 0.0
        for c in keys:
            for j in range(num_pairs):
                is_own = (c, j) == (own, i)
                equal = ids is not None and ids[c][j] in (ids[query][i], ids[own][i])
                partner = {0: 1, 1: 0}.get(c, c)
                equal = equal or (ids is not None and ids[partner][j] == ids[query][i])
                too_near = guide_alike(guides[query, i], guides[c, j]) > bound
                if is_own or not (equal or too_near):
                    total += np.exp(alike(columns[query, i], columns[c, j]) / temperature)
        positive = np.exp(alike(columns[query, i], columns[own, i]) / temperature)
        losses.append(-np.log(positive / total))
    return np.mean(losses)


def close(loss, expected):
    return loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("columns", [2, 3, 5])
def test_the_formula(columns):
    embeddings = embeddings_of(columns=columns)
    assert close(InfoNCE()(embeddings, NO_TARGETS), by_hand(embeddings))
    warm = InfoNCE(temperature=0.7)(embeddings, NO_TARGETS)
    assert close(warm, by_hand(embeddings, temperature=0.7))


def test_symmetric_is_the_mean_of_both_directions():
    embeddings = embeddings_of(columns=3)
    both = by_hand(embeddings) + by_hand(embeddings, swap=True)
    assert close(InfoNCE(symmetric=True)(embeddings, NO_TARGETS), both / 2)


def test_equal_texts_are_no_negatives():
    embeddings = embeddings_of(columns=3)
    ids = [[0, 1, 2, 3, 4, 5], [6, 6, 8, 9, 0, 11], [12, 13, 14, 8, 16, 17]]
    targets = PairTargets(text_groups=torch.tensor(ids))
    masked = by_hand(embeddings, ids=ids)
    assert masked < by_hand(embeddings)
    assert close(InfoNCE()(embeddings, targets), masked)
    both = masked + by_hand(embeddings, ids=ids, swap=True)
    assert close(InfoNCE(symmetric=True)(embeddings, targets), both / 2)


def test_other_positives_of_an_equal_anchor_are_no_negatives():
    same = torch.ones(2, 2, 4)
    one_query = PairTargets(text_groups=torch.tensor([[0, 0], [1, 2]]))
    assert InfoNCE()(same, one_query) == 0
    one_positive = PairTargets(text_groups=torch.tensor([[0, 1], [2, 2]]))
    assert InfoNCE(symmetric=True)(same, one_positive) == 0
    strangers = PairTargets(text_groups=torch.tensor([[0, 1], [2, 3]]))
    assert close(InfoNCE(symmetric=True)(same, strangers), math.log(2))
    negatives = PairTargets(text_groups=torch.tensor([[0, 0], [1, 2], [3, 4]]))
    # those of an equal anchor's row stay: they were chosen for that anchor, too
    assert close(InfoNCE()(torch.ones(3, 2, 4), negatives), math.log(3))


def test_a_row_short_of_negatives_may_repeat_its_positive():
    embeddings = embeddings_of(columns=3).detach()
    embeddings[2] = embeddings[1]
    ids = torch.arange(12).reshape(2, 6)[[0, 1, 1]]
    repeated = InfoNCE()(embeddings, PairTargets(text_groups=ids))
    # The other rows' positives then count twice.
    assert repeated > InfoNCE()(embeddings[:2], NO_TARGETS)
    one_row = InfoNCE()(embeddings[:, :1], PairTargets(text_groups=ids[:, :1]))
    assert one_row == 0


@pytest.mark.parametrize("margin", [-0.3, 0.0, 0.2])
@pytest.mark.parametrize("margin_type", ["absolute", "relative"])
@pytest.mark.parametrize("guided", [False, True])
def test_candidates_beyond_the_margin_are_no_negatives(margin, margin_type, guided):
    embeddings = embeddings_of(columns=3)
    guide = embeddings_of(columns=3, dim=5, seed=9).detach() if guided else None
    loss = InfoNCE(false_negative_margin=margin, margin_type=margin_type, symmetric=True)
    options = {"margin": margin, "relative": margin_type == "relative", "guide": guide}
    both = by_hand(embeddings, **options) + by_hand(embeddings, **options, swap=True)
    assert both / 2 < 0.95 * InfoNCE(symmetric=True)(embeddings, NO_TARGETS)
    assert close(loss(embeddings, PairTargets(guide_embeddings=guide)), both / 2)


@pytest.mark.parametrize("own", ALIKE)
@pytest.mark.parametrize("guides", [None, *ALIKE])
def test_a_model_and_its_guide_compare_each_in_its_own_way(own, guides):
    embeddings, guide = embeddings_of(columns=3), None
    targets = NO_TARGETS
    if guides:
        guide = embeddings_of(columns=3, dim=5, seed=9).detach()
        targets = PairTargets(guide_embeddings=guide, guide_similarity=guides)
    loss = InfoNCE(
        similarity=own, temperature=0.8, false_negative_margin=-0.05, margin_type="relative"
    )
    expected = by_hand(
        embeddings, temperature=0.8, margin=-0.05, relative=True, guide=guide, similarity=own,
        guide_similarity=guides,
    )  # fmt: skip
    assert close(loss(embeddings, targets), expected)


def test_an_anchor_without_negatives_left_has_no_loss_and_no_gradient():
    embeddings = embeddings_of(columns=3)
    loss = InfoNCE(false_negative_margin=-3.0, learn_temperature=True)
    value = loss(embeddings, NO_TARGETS)
    value.backward()
    assert value == 0
    assert embeddings.grad.count_nonzero() == 0
    assert loss.raw_temperature.grad == 0


def test_a_batch_of_one_has_only_its_hard_negatives():
    pair = embeddings_of(columns=2, pairs=1)
    assert InfoNCE()(pair, NO_TARGETS) == 0
    row = embeddings_of(columns=3, pairs=1)
    assert close(InfoNCE()(row, NO_TARGETS), by_hand(row))


def test_a_learnt_temperature_starts_where_told_and_has_the_right_gradient():
    embeddings = embeddings_of(columns=3)
    loss = InfoNCE(temperature=0.07, learn_temperature=True)
    assert loss.temperature.item() == pytest.approx(0.07)
    value = loss(embeddings, NO_TARGETS)
    assert close(value, by_hand(embeddings, temperature=0.07))
    value.backward()
    step = 1e-3
    with torch.no_grad():
        loss.raw_temperature += step
    higher = by_hand(embeddings, temperature=loss.temperature.item())
    with torch.no_grad():
        loss.raw_temperature -= 2 * step
    lower = by_hand(embeddings, temperature=loss.temperature.item())
    slope = (higher - lower) / (2 * step)
    assert loss.raw_temperature.grad.item() == pytest.approx(slope, rel=1e-2)


def test_a_learnt_temperature_neither_falls_through_the_floor_nor_sticks_to_it():
    """Pairs that are told apart already pull it down; then pairs that are not push it up."""
    texts = torch.eye(4) + 1
    easy, wrong = torch.stack([texts, texts]), torch.stack([texts, texts.roll(1, 0)])
    loss = InfoNCE(temperature=0.2, learn_temperature=True)
    for embeddings, lowest, highest in ((easy, MIN_TEMPERATURE, 0.02), (wrong, 0.1, math.inf)):
        for _ in range(30):
            (slope,) = torch.autograd.grad(loss(embeddings, NO_TARGETS), loss.raw_temperature)
            with torch.no_grad():
                loss.raw_temperature -= 0.3 * slope.sign()
        assert lowest < loss.temperature.item() < highest


@pytest.mark.parametrize(("temperature", "learn"), [(0.0, False), (-1.0, False), (0.01, True)])
def test_the_temperature_must_be_possible(temperature, learn):
    with pytest.raises(ConfigError, match=r"loss infonce: temperature: .* must be above"):
        InfoNCE(temperature=temperature, learn_temperature=learn)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [2, 4])
def test_it_is_that_of_sentence_transformers(columns):
    expected = theirs("MultipleNegativesRankingLoss", columns_of(columns), scale=12.5)
    assert_theirs(InfoNCE(temperature=0.08), columns_of(columns), PairTargets(), expected)
    expected = theirs(
        "MultipleNegativesRankingLoss",
        columns_of(columns),
        scale=12.5,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    symmetric = InfoNCE(temperature=0.08, symmetric=True)
    assert_theirs(symmetric, columns_of(columns), PairTargets(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("margin_type", ["absolute", "relative"])
@pytest.mark.parametrize("margin", [0.0, -0.1])
def test_with_a_guide_it_is_that_of_sentence_transformers(margin_type, margin):
    """Their margin is subtracted. Their constructor asks the model and guide for tokenizers."""
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    guides = embeddings_of(columns=3, dim=5, dtype=torch.float32, seed=8).detach()
    loss = GISTEmbedLoss.__new__(GISTEmbedLoss)
    nn.Module.__init__(loss)
    loss.model, loss.guide, loss.must_retokenize = Stub(), Guide(guides), False
    loss.similarity_fct, loss.cross_entropy_loss = nn.CosineSimilarity(-1), nn.CrossEntropyLoss()
    loss.temperature, loss.margin, loss.margin_strategy = 0.05, -margin, margin_type
    loss.contrast_anchors = loss.contrast_positives = loss.gather_across_devices = False
    expected = loss([{"embedding": one, "column": i} for i, one in enumerate(columns_of(3))], None)
    ours = InfoNCE(false_negative_margin=margin, margin_type=margin_type)
    assert_theirs(ours, columns_of(3), PairTargets(guide_embeddings=guides), expected)
    assert not torch.isclose(expected, InfoNCE()(columns_of(3), PairTargets()))


class Guide(nn.Module):
    def __init__(self, embeddings):
        super().__init__()
        self.embeddings = embeddings

    def forward(self, features):
        return {"sentence_embedding": self.embeddings[features["column"]]}
