"""Spectra: against their definitions, worked out another way."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.benchmark.spectra import embedding_shape, matrix_spectrum, weight_spectra
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.evaluation.evaluator import spectra
from tests.encoder.tiny import tiny_config
from tests.tiny_model import TINY_CONFIG


def test_ranks_of_matrices_whose_spectrum_is_known():
    """k equal singular values: both ranks are k; one alone: both are 1."""
    draw = np.random.default_rng(0)
    left, right = (np.linalg.qr(draw.standard_normal((20, 8)))[0] for _ in range(2))
    for rank in (1, 5, 8):
        matrix = torch.from_numpy(3.0 * left[:, :rank] @ right[:, :rank].T)
        spectrum = matrix_spectrum(matrix)
        assert spectrum["effective_rank"] == pytest.approx(rank, abs=1e-6)
        assert spectrum["stable_rank"] == pytest.approx(rank, abs=1e-6)
        assert spectrum["singular_values"][:rank] == pytest.approx([3.0] * rank)
    assert spectrum["largest_over_mean"] == pytest.approx(20 / 8)


def test_long_spectra_are_thinned_and_keep_their_ends():
    matrix = torch.diag(torch.arange(200.0, 0, -1))
    values = matrix_spectrum(matrix)["singular_values"]
    assert len(values) == 64 and (values[0], values[-1]) == (200.0, 1.0)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("matrix", [torch.full((3, 3), torch.nan), torch.full((2, 2), torch.inf)])
def test_weights_that_are_not_finite_have_no_spectrum(matrix):
    spectrum = matrix_spectrum(matrix)
    assert spectrum["singular_values"] == [] and spectrum["effective_rank"] is None


def test_zero_is_a_matrix_too():
    assert matrix_spectrum(torch.zeros(4, 4))["stable_rank"] == 0.0


def test_every_matrix_of_every_layer_has_a_row():
    encoder = build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0)
    rows = list(weight_spectra(encoder))
    layers = TINY_CONFIG["num_hidden_layers"]
    assert {row["layer"] for row in rows} == set(range(layers))
    assert len(rows) == 6 * layers  # query, key, value, output, and two of the feed-forward
    row = next(row for row in rows if row["name"].endswith("layer.1.intermediate.dense.weight"))
    weight = encoder.network.state_dict()[row["name"]].double()
    values = np.linalg.svd(weight.numpy(), compute_uv=False)
    assert row["singular_values"] == pytest.approx(values[: len(row["singular_values"])], rel=1e-4)
    assert row["largest_over_mean"] == pytest.approx(values[0] / values.mean(), rel=1e-4)


@pytest.mark.parametrize(("model_type", "matrices"), [("albert", 6), ("distilbert", 12)])
def test_layers_are_found_whatever_they_are_called(model_type, matrices):
    """ALBERT's two layers are one matrix each."""
    encoder = build_encoder(tiny_config(model_type), seed=0, masked_head=False)
    assert len(list(weight_spectra(encoder))) == matrices
    ratios = spectra(encoder.network.state_dict())
    assert ratios["svd_mean_ratio_1"] > 1


def test_the_shape_of_vectors_by_its_definition():
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((12, 6)).astype(np.float32) + 1
    pairs = vectors[:5], vectors[5:10]
    found = embedding_shape(vectors, pairs)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    both = [(a, b) for a in range(12) for b in range(a)]
    assert found["anisotropy"] == pytest.approx(np.mean([unit[a] @ unit[b] for a, b in both]))
    distances = np.array([((unit[a] - unit[b]) ** 2).sum() for a, b in both])
    assert found["uniformity"] == pytest.approx(np.log(np.exp(-2 * distances).mean()), abs=1e-6)
    aligned = ((unit[:5] - unit[5:10]) ** 2).sum(axis=1).mean()
    assert found["alignment"] == pytest.approx(aligned, abs=1e-6)
    assert embedding_shape(vectors)["alignment"] is None


def test_vectors_that_are_all_alike_are_anisotropic():
    found = embedding_shape(np.ones((4, 3), np.float32))
    assert found["anisotropy"] == pytest.approx(1, abs=1e-5)
    assert found["uniformity"] == pytest.approx(0, abs=1e-5)
