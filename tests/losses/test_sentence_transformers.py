"""Our losses against sentence-transformers' own classes, fed embeddings by a stub model."""

import pytest
import torch
from torch import nn

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.matryoshka import Matryoshka
from tests.losses.batches import embeddings_of

pytestmark = pytest.mark.slow  # their import alone takes 10 s

PAIRS = 6
BINARY = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
GRADED = torch.tensor([0.2, 0.9, 0.9, 0.0, 1.0, 0.4])


class Stub(nn.Module):
    """A model whose features are the embeddings."""

    tokenizer = None

    def forward(self, features):
        return {"sentence_embedding": features["embedding"]}

    def get_embedding_dimension(self):
        return 8


def theirs(name, embeddings, labels=None, **options):
    from sentence_transformers.sentence_transformer import losses

    loss = getattr(losses, name)(Stub(), **options)
    return loss([{"embedding": column} for column in embeddings], labels).float()


def check(ours, embeddings, targets, expected):
    torch.testing.assert_close(ours(embeddings, targets), expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def make():
    return lambda columns: embeddings_of(columns=columns, dtype=torch.float32, seed=3)


@pytest.mark.parametrize("columns", [2, 4])
def test_infonce(make, columns):
    expected = theirs("MultipleNegativesRankingLoss", make(columns), scale=12.5)
    check(LOSSES["infonce"](temperature=0.08), make(columns), PairTargets(), expected)
    expected = theirs(
        "MultipleNegativesRankingLoss",
        make(columns),
        scale=12.5,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    symmetric = LOSSES["infonce"](temperature=0.08, symmetric=True)
    check(symmetric, make(columns), PairTargets(), expected)


@pytest.mark.parametrize("margin_type", ["absolute", "relative"])
@pytest.mark.parametrize("margin", [0.0, -0.1])
def test_infonce_with_a_guide(make, margin_type, margin):
    """Their margin is subtracted. Their constructor asks the model and guide for tokenizers."""
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    guides = embeddings_of(columns=3, dim=5, dtype=torch.float32, seed=8).detach()
    loss = GISTEmbedLoss.__new__(GISTEmbedLoss)
    nn.Module.__init__(loss)
    loss.model, loss.guide, loss.must_retokenize = Stub(), Guide(guides), False
    loss.similarity_fct, loss.cross_entropy_loss = nn.CosineSimilarity(-1), nn.CrossEntropyLoss()
    loss.temperature, loss.margin, loss.margin_strategy = 0.05, -margin, margin_type
    loss.contrast_anchors = loss.contrast_positives = loss.gather_across_devices = False
    expected = loss([{"embedding": one, "column": i} for i, one in enumerate(make(3))], None)
    ours = LOSSES["infonce"](false_negative_margin=margin, margin_type=margin_type)
    check(ours, make(3), PairTargets(guide_embeddings=guides), expected)
    assert not torch.isclose(expected, LOSSES["infonce"]()(make(3), PairTargets()))


class Guide(nn.Module):
    def __init__(self, embeddings):
        super().__init__()
        self.embeddings = embeddings

    def forward(self, features):
        return {"sentence_embedding": self.embeddings[features["column"]]}


def test_losses_of_labelled_pairs(make):
    graded, binary = PairTargets(labels=GRADED), PairTargets(labels=BINARY)
    expected = theirs("CosineSimilarityLoss", make(2), GRADED)
    check(LOSSES["cosine"](), make(2), graded, expected)
    expected = theirs("CoSENTLoss", make(2), GRADED, scale=20.0)
    check(LOSSES["cosent"](temperature=0.05), make(2), graded, expected)
    expected = theirs("ContrastiveLoss", make(2), BINARY, margin=0.9)
    check(LOSSES["contrastive"](margin=0.9), make(2), binary, expected)


@pytest.mark.parametrize("labels", [BINARY, torch.ones(PAIRS), torch.zeros(PAIRS)])
def test_online_contrastive_is_theirs_over_the_number_of_pairs(make, labels):
    expected = theirs("OnlineContrastiveLoss", make(2), labels, margin=1.1)
    assert expected > 0
    ours = LOSSES["online_contrastive"](margin=1.1)
    check(ours, make(2), PairTargets(labels=labels), expected / PAIRS)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_triplet(make, distance):
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric

    metric = getattr(TripletDistanceMetric, distance.upper())
    expected = theirs("TripletLoss", make(3), distance_metric=metric, triplet_margin=0.7)
    check(LOSSES["triplet"](margin=0.7, distance=distance), make(3), PairTargets(), expected)


@pytest.mark.parametrize("columns", [3, 5])
def test_distillation(make, columns):
    teacher = torch.randn(PAIRS, columns - 1, generator=torch.Generator().manual_seed(5))
    targets = PairTargets(teacher_scores=teacher)
    check(
        LOSSES["margin_mse"](),
        make(columns),
        targets,
        theirs("MarginMSELoss", make(columns), teacher),
    )
    expected = theirs(
        "DistillKLDivLoss", make(columns), teacher, student_temperature=2.0, teacher_temperature=0.5
    )
    ours = LOSSES["kl_distillation"](
        similarity="dot", student_temperature=2.0, teacher_temperature=0.5
    )
    check(ours, make(columns), targets, expected / 2.0**2)


def test_matryoshka(make):
    from sentence_transformers.sentence_transformer import losses

    model = Stub()
    loss = losses.MatryoshkaLoss(
        model, losses.MultipleNegativesRankingLoss(model), [8, 4, 2], [1.0, 0.5, 0.25]
    )
    expected = loss([{"embedding": column} for column in make(3)], None)
    ours = Matryoshka(LOSSES["infonce"](), [8, 4, 2], [1.0, 0.5, 0.25])
    check(ours, make(3), PairTargets(), expected)
