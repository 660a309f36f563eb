import pytest
import torch
import torch.nn.functional as F

from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.similarity import (
    SIMILARITIES,
    all_dots,
    cosine,
    dot,
    in_fp32,
    normalised,
)
from kl3m_embeddings.metrics.vectors import ALIKENESS
from kl3m_embeddings.metrics.vectors import SIMILARITIES as MEASURED
from tests.losses.batches import embeddings_of, targets_for


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_similarities_are_torchs_of_the_same_numbers_in_fp32(dtype):
    first, second = random(3, 4, 8, dtype=dtype), random(3, 4, 8, dtype=dtype, seed=1)
    wide = first.float(), second.float()
    torch.testing.assert_close(cosine(first, second), F.cosine_similarity(*wide, dim=-1))
    torch.testing.assert_close(dot(first, second), torch.einsum("cpd,cpd->cp", *wide))
    torch.testing.assert_close(
        all_dots(first[0], second[1]), torch.einsum("id,jd->ij", wide[0][0], wide[1][1])
    )
    assert in_fp32(first).dtype == torch.float32


@pytest.mark.parametrize("num_texts", [3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_what_is_trained_by_is_what_is_measured_by(name, dtype, num_texts):
    """Losses and evaluation, pairs and tables, under autocast, too."""
    first, second = random(num_texts, 8, dtype=dtype), random(num_texts, 8, dtype=dtype, seed=1)
    wide = first.float().numpy(), second.float().numpy()
    one = SIMILARITIES[name]
    with torch.autocast("cpu", torch.bfloat16):
        table = one.of_all(one.prepared(first), one.prepared(second))
        pairs = one(first, second)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(table, torch.from_numpy(MEASURED[name](*wide)), **close)
    torch.testing.assert_close(pairs, torch.from_numpy(ALIKENESS[name](*wide)), **close)
    assert bool((table <= 0).all()) == one.is_distance


def test_fp64_stays():
    vectors = random(2, 8, dtype=torch.float64)
    assert {
        one.dtype for one in (in_fp32(vectors), normalised(vectors), dot(vectors, vectors))
    } == {torch.float64}


def test_autocast_does_not_round_the_products():
    first, second = random(5, 64), random(7, 64, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        products = all_dots(first, second)
        assert (first @ second.T).dtype == torch.bfloat16
    assert torch.equal(products, first @ second.T)


def test_zero_has_no_direction():
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert normalised(vectors).tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert cosine(vectors[:1], vectors[1:]).tolist() == [0.0]


COSINE_LOSSES = [
    "infonce", "cosine", "contrastive", "online_contrastive", "triplet", "cosent",
    "kl_distillation", "ssd",
]  # fmt: skip


@pytest.mark.parametrize("name", COSINE_LOSSES)
def test_losses_of_cosines_do_not_see_lengths(name):
    embeddings = embeddings_of(name)
    targets = targets_for(embeddings)
    lengths = torch.rand(embeddings.shape[:2], dtype=torch.float64)[..., None] + 0.5
    loss = LOSSES[name]()
    torch.testing.assert_close(loss(embeddings * lengths, targets), loss(embeddings, targets))
