"""A loss for each way to compare vectors: refused, or with defaults of that scale."""

import re
from typing import get_args

import pytest
import torch

from kl3m_embeddings.config.losses import AnyLossOptions
from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.base import Compared
from kl3m_embeddings.losses.build import build_loss, chosen_loss
from kl3m_embeddings.losses.similarity import SIMILARITIES, normalised
from tests.losses.batches import embeddings_of, targets_for

NAMES = get_args(SimilarityName)
OPTIONS = {kind.model_fields["name"].default: kind for kind in get_args(AnyLossOptions)}
COSINES_ONLY = {"cosine", "ssd"}
WITH_MARGIN = {"contrastive", "online_contrastive", "triplet"}


def built(name, similarity, unit_length=False, **arguments):
    compared = Compared(similarity=similarity, unit_length=unit_length)
    return build_loss(name, arguments, compared, f"tasks.x.loss: {name}")


def test_there_is_a_function_for_every_name():
    assert SIMILARITIES.keys() == set(NAMES)


@pytest.mark.parametrize("similarity", NAMES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_compares_by_the_runs_similarity_or_is_refused_with_a_remedy(name, similarity):
    """Of vectors of any length."""
    margin = {"margin": 0.7} if name in WITH_MARGIN else {}
    refused = {
        "cosine": set(),
        "dot": COSINES_ONLY | {"contrastive", "online_contrastive"},
        "euclidean": COSINES_ONLY,
        "manhattan": COSINES_ONLY,
    }[similarity]
    if name in refused:
        with pytest.raises(ConfigError, match=rf"^tasks\.x\.loss: {name}: .*set similarity to "):
            built(name, similarity, **margin)
        return
    embeddings = embeddings_of(name)
    found = built(name, similarity, **margin)(embeddings, targets_for(embeddings))
    others = {
        other: LOSSES[name](similarity=other, **margin)(embeddings, targets_for(embeddings))
        for other in NAMES
    }
    if similarity in ("cosine", "dot") or name in WITH_MARGIN or name == "margin_mse":
        default = LOSSES[name](similarity=similarity, **margin)
        expected = default(embeddings, targets_for(embeddings))
        scaled = {"temperature", "student_temperature"} & LOSSES[name].beyond_unit_range.keys()
        assert (found == expected) == (similarity == "cosine" or not scaled)
    assert sum(bool(found == value) for value in others.values()) <= 1


@pytest.mark.parametrize("name", LOSSES)
def test_the_product_of_unit_vectors_is_the_cosine(name):
    """Also its defaults, and also for those that take no other products."""
    vectors = normalised(embeddings_of(name)).detach()
    by_dot, by_cosine = built(name, "dot", unit_length=True), built(name, "cosine")
    targets = targets_for(vectors)
    torch.testing.assert_close(by_dot(vectors, targets), by_cosine(vectors, targets))


@pytest.mark.parametrize(
    ("similarity", "unit_length", "temperature"),
    [
        ("cosine", False, 0.05), ("cosine", True, 0.05), ("dot", True, 0.05),
        ("euclidean", True, 0.05), ("dot", False, 1.0), ("euclidean", False, 1.0),
        ("manhattan", False, 1.0), ("manhattan", True, 1.0),
    ],
)  # fmt: skip
def test_a_temperature_is_of_the_scale_of_the_similarities(similarity, unit_length, temperature):
    compared = Compared(similarity=similarity, unit_length=unit_length)
    for name, field in (
        ("infonce", "temperature"),
        ("cosent", "temperature"),
        ("kl_distillation", "student_temperature"),
    ):
        assert getattr(chosen_loss("x", OPTIONS[name](), compared), field) == temperature
        given = OPTIONS[name](**{field: 0.3})
        assert getattr(chosen_loss("x", given, compared), field) == 0.3


@pytest.mark.parametrize("name", sorted(WITH_MARGIN))
def test_a_margin_without_a_usual_size_must_be_given(name):
    says = f"tasks.x.loss: {name}: margin: has no default where the similarity is euclidean"
    compared = Compared(similarity="euclidean")
    with pytest.raises(ConfigError, match=f"^{re.escape(says)}"):
        chosen_loss("x", OPTIONS[name](), compared)
    assert chosen_loss("x", OPTIONS[name](margin=7.0), compared).margin == 7.0
    unit = Compared(similarity="euclidean", unit_length=True)
    assert chosen_loss("x", OPTIONS[name](), unit).margin == LOSSES[name]().margin
