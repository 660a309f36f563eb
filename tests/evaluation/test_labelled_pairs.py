"""Pairs with labels: as scipy and scikit-learn measure them."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from tests.evaluation.pairs_and_vectors import SIZE, binary, cosine, embed, graded, normals, signs


@pytest.mark.parametrize(
    ("vectors", "dims"), [(signs(30), [4]), (normals(30), [4, 9])], ids=["ties", "no ties"]
)
def test_labels_are_scipys_and_sklearns(vectors, dims):
    for pairs in (graded(), binary()):
        found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors), dims)
        for dim, suffix in ((SIZE, ""), *((dim, f"/{dim}") for dim in dims)):
            scores = np.array(
                [
                    cosine(vectors[q, :dim], vectors[d, :dim])
                    for q, d in zip(pairs.queries, pairs.positives, strict=True)
                ]
            ).astype(np.float32)
            if "x/ap" in found:
                expected = {
                    "ap": sklearn_metrics.average_precision_score(pairs.labels, scores),
                    "auc": sklearn_metrics.roc_auc_score(pairs.labels, scores),
                }
            else:
                expected = {
                    "spearman": stats.spearmanr(scores, pairs.labels)[0],
                    "pearson": stats.pearsonr(scores, pairs.labels)[0],
                }
            ours = {name: found[f"x/{name}{suffix}"] for name in expected}
            assert ours == pytest.approx(expected, rel=1e-4)
        assert found["x/num_pairs"] == 60


def test_a_collapsed_model_classifies_and_correlates_by_chance():
    vectors = np.ones((30, SIZE), np.float32)
    pairs = binary()
    found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors))
    share = pairs.labels.mean()
    assert found["x/auc"] == 0.5
    assert found["x/ap"] == pytest.approx(share)
    assert found["x/accuracy"] == pytest.approx(1 - share)
    assert found["x/f1"] == pytest.approx(2 * share / (1 + share))
    found = PairEvaluation.build("x", graded()).evaluate(embed(vectors), embed(vectors))
    assert (found["x/spearman"], found["x/pearson"]) == (None, None)
