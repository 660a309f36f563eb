"""Each loss but InfoNCE against its formula, written out pair by pair in numpy."""

import numpy as np
import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.contrastive import Contrastive
from kl3m_embeddings.losses.cosent import CoSENT
from kl3m_embeddings.losses.cosine import Cosine
from kl3m_embeddings.losses.kl_distillation import KLDistillation
from kl3m_embeddings.losses.margin_mse import MarginMSE
from kl3m_embeddings.losses.online_contrastive import OnlineContrastive
from kl3m_embeddings.losses.ssd import SSD, mean_similarities
from kl3m_embeddings.losses.triplet import Triplet
from tests.losses.batches import embeddings_of

GRADED = torch.tensor([0.2, 0.9, 0.9, 0.0, 1.0, 0.4])
BINARY = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])


def cosine(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def cosines_of(embeddings):
    anchors, others = embeddings.detach().numpy()[:2]
    return [cosine(*pair) for pair in zip(anchors, others, strict=True)]


def value(loss, embeddings, **targets):
    return loss(embeddings, PairTargets(**targets)).item()


def test_cosine():
    embeddings = embeddings_of("cosine")
    squares = [(s - y) ** 2 for s, y in zip(cosines_of(embeddings), GRADED.tolist(), strict=True)]
    assert value(Cosine(), embeddings, labels=GRADED) == pytest.approx(np.mean(squares))


def test_contrastive():
    embeddings = embeddings_of("contrastive")
    terms = [
        ((1 - s) if y else max(0, 0.8 - (1 - s))) ** 2 / 2
        for s, y in zip(cosines_of(embeddings), BINARY.tolist(), strict=True)
    ]
    loss = value(Contrastive(margin=0.8), embeddings, labels=BINARY)
    assert loss == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("labels", [BINARY, torch.ones(6), torch.zeros(6)])
def test_online_contrastive(labels):
    embeddings = embeddings_of("contrastive", seed=1)
    distances = 1 - np.array(cosines_of(embeddings))
    similar, different = distances[labels == 1], distances[labels == 0]
    lower = different.min() if len(different) else similar.mean()
    upper = similar.max() if len(similar) else different.mean()
    hard_similar, hard_different = similar[similar > lower], different[different < upper]
    assert 0 < len(hard_similar) + len(hard_different) < 6
    total = (hard_similar**2).sum() + (np.maximum(0, 1.1 - hard_different) ** 2).sum()
    loss = value(OnlineContrastive(margin=1.1), embeddings, labels=labels)
    assert loss == pytest.approx(total / 6)


def test_pairs_in_perfect_order_are_not_hard():
    embeddings = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.1], [0.5, 1.0]]])
    assert value(OnlineContrastive(margin=2.0), embeddings, labels=torch.tensor([1.0, 0.0])) == 0


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_triplet(distance):
    embeddings = embeddings_of("triplet")
    anchors, positives, *negatives = embeddings.detach().numpy()

    def apart(first, second):
        if distance == "cosine":
            return 1 - cosine(first, second)
        return np.sqrt(((first - second) ** 2).sum())

    terms = [
        max(0, apart(a, p) - apart(a, n) + 0.1)
        for column in negatives
        for a, p, n in zip(anchors, positives, column, strict=True)
    ]
    assert 0 in terms
    loss = value(Triplet(margin=0.1, distance=distance), embeddings)
    assert loss == pytest.approx(np.mean(terms))


def test_cosent():
    embeddings, labels = embeddings_of("cosent"), GRADED.tolist()
    s = cosines_of(embeddings)
    total = sum(
        np.exp((s[j] - s[i]) / 0.1) for i in range(6) for j in range(6) if labels[i] > labels[j]
    )
    loss = value(CoSENT(temperature=0.1), embeddings, labels=GRADED)
    assert loss == pytest.approx(np.log(1 + total))


def test_cosent_asks_nothing_of_equal_labels():
    embeddings = embeddings_of("cosent")
    loss = CoSENT()(embeddings, PairTargets(labels=torch.full((6,), 0.5)))
    loss.backward()
    assert loss == 0
    assert embeddings.grad.count_nonzero() == 0


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_margin_mse_and_kl_distillation(similarity):
    embeddings = embeddings_of("margin_mse")
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    anchors, *candidates = embeddings.detach().numpy()
    measure = cosine if similarity == "cosine" else np.dot
    student = np.array(
        [[measure(anchors[i], column[i]) for column in candidates] for i in range(6)]
    )
    squares = [
        ((student[i, 0] - student[i, n]) - (teacher[i, 0] - teacher[i, n]).item()) ** 2
        for i in range(6)
        for n in (1, 2)
    ]
    loss = value(MarginMSE(similarity=similarity), embeddings, teacher_scores=teacher)
    assert loss == pytest.approx(np.mean(squares), rel=1e-5)

    def softmax(scores):
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    target, ours = softmax(teacher.numpy() / 2.0), softmax(student / 0.7)
    divergences = (target * np.log(target / ours)).sum(axis=1)
    distillation = KLDistillation(
        similarity=similarity, student_temperature=0.7, teacher_temperature=2.0
    )
    loss = value(distillation, embeddings, teacher_scores=teacher)
    assert loss == pytest.approx(divergences.mean(), rel=1e-5)


def test_a_student_who_agrees_with_the_teacher_has_no_loss():
    embeddings = embeddings_of("margin_mse", dtype=torch.float32)
    scores = (embeddings[0] * embeddings[1:]).sum(-1).T.detach()
    assert value(MarginMSE(), embeddings, teacher_scores=scores + 7) == pytest.approx(0, abs=1e-10)
    alike = KLDistillation(similarity="dot", student_temperature=1.0)
    assert value(alike, embeddings, teacher_scores=scores + 7) == pytest.approx(0, abs=1e-6)


def test_ssd():
    embeddings = embeddings_of("ssd")
    same, similar, different, losses = [], [], [], []
    for a, other_a, b, c in embeddings.detach().numpy().swapaxes(0, 1):
        same.append(cosine(a, other_a))
        similar.append([cosine(a, b), cosine(other_a, b)])
        different.append([cosine(a, c), cosine(other_a, c), cosine(b, c)])
        terms = [1 - same[-1]]
        terms += [-0.5 * s for s in similar[-1]]
        terms += [0.33 * (1 + s) for s in different[-1]]
        losses.append(np.log(np.exp(terms).sum()))
    assert value(SSD(), embeddings) == pytest.approx(np.mean(losses))
    means = {name: mean.item() for name, mean in mean_similarities(embeddings).items()}
    assert means == pytest.approx(
        {
            "mean_sim_same": np.mean(same),
            "mean_sim_similar": np.mean(similar),
            "mean_sim_diff": np.mean(different),
        }
    )


def test_the_least_ssd_loss_is_the_one_in_its_docstring():
    one = torch.tensor([[1.0, 0.0]])
    best = torch.stack([one, one, one, -one])
    assert value(SSD(), best) == pytest.approx(np.log(1 + 2 * np.exp(-0.5) + 3))
    assert value(SSD(), best) == pytest.approx(1.65, abs=0.01)
