"""Measures of labelled pairs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, Shaped


def pearson(first: Num[np.ndarray, " pairs"], second: Num[np.ndarray, " pairs"]) -> float:
    """Pearson's correlation; NaN if either side is constant. As scipy.stats.pearsonr."""
    centred = [values - values.mean() for values in (first.astype(float), second.astype(float))]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    unit_first, unit_second = (values / np.linalg.norm(values) for values in centred)
    return float(unit_first @ unit_second)


def spearman(first: Num[np.ndarray, " pairs"], second: Num[np.ndarray, " pairs"]) -> float:
    """Pearson's correlation of ranks, ties having their mean rank. As scipy.stats.spearmanr."""
    return pearson(_mean_ranks(first), _mean_ranks(second))


def _mean_ranks(values: Num[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    _, group_of, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[group_of]
    return ranks


def roc_auc(scores: Num[np.ndarray, " pairs"], labels: Shaped[np.ndarray, " pairs"]) -> float:
    """Probability that a positive scores higher than a negative; a tie counts half.

    NaN if there is one kind only. Mann and Whitney 1947, https://doi.org/10.1214/aoms/1177730491;
    as sklearn.metrics.roc_auc_score.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    positive = labels.astype(bool)
    num_positives = positive.sum()
    num_pairs = num_positives * (len(labels) - num_positives)
    if num_pairs == 0:
        return float("nan")
    num_wins = _mean_ranks(scores)[positive].sum() - num_positives * (num_positives + 1) / 2
    return float(num_wins / num_pairs)


def binary_average_precision(
    scores: Num[np.ndarray, " pairs"], labels: Shaped[np.ndarray, " pairs"]
) -> float:
    """Area under precision over recall, in steps. As sklearn.metrics.average_precision_score.

    NaN if there is no positive.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    cuts = _cuts(scores, labels)
    num_positives = cuts.num_found[-1]
    if num_positives == 0:
        return float("nan")
    precision = cuts.num_found / cuts.num_chosen
    return float((np.diff(cuts.num_found, prepend=0) * precision).sum() / num_positives)


class AtThreshold(NamedTuple):
    """A metric's best value, and the least score that counts as positive there."""

    value: float
    threshold: float


def best_accuracy(
    scores: Num[np.ndarray, " pairs"], labels: Shaped[np.ndarray, " pairs"]
) -> AtThreshold:
    """Accuracy at the threshold that is best for it, the highest such one.

    The threshold lies midway between two scores, or just above the highest: all are negative then.
    As BinaryClassificationEvaluator of sentence-transformers.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    cuts = _cuts(scores, labels)
    num_negatives = len(labels) - cuts.num_found[-1]
    num_right = num_negatives + 2 * cuts.num_found - cuts.num_chosen
    best = int(num_right.argmax())
    if num_right[best] <= num_negatives:
        return AtThreshold(float(num_negatives / len(labels)), cuts.above_all)
    return AtThreshold(float(num_right[best] / len(labels)), float(cuts.thresholds[best]))


def best_f1(scores: Num[np.ndarray, " pairs"], labels: Shaped[np.ndarray, " pairs"]) -> AtThreshold:
    """F1 at the threshold that is best for it, the highest such one; 0 without positives.

    As BinaryClassificationEvaluator of sentence-transformers.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    cuts = _cuts(scores, labels)
    f1 = 2 * cuts.num_found / (cuts.num_chosen + cuts.num_found[-1])
    best = int(f1.argmax())
    return AtThreshold(
        float(f1[best]), float(cuts.thresholds[best]) if f1[best] else cuts.above_all
    )


class _Cuts(NamedTuple):
    """Every way to call the highest scores positive that does not part equal ones, least first."""

    thresholds: Float[np.ndarray, " cuts"]
    num_chosen: Int[np.ndarray, " cuts"]
    num_found: Int[np.ndarray, " cuts"]
    """Positives among the chosen."""
    above_all: float


def _cuts(scores: Num[np.ndarray, " pairs"], labels: Shaped[np.ndarray, " pairs"]) -> _Cuts:
    order = np.argsort(scores)[::-1]
    values = scores[order]
    ends = np.flatnonzero(np.append(values[:-1] != values[1:], True))
    highest_of_rest = np.append(values[ends[:-1] + 1], values[-1])
    midway = (values[ends] + highest_of_rest) / 2
    return _Cuts(
        # In the scores' own precision, so that `scores >= threshold` says the same; there the
        # middle of neighbouring floats may be the lower one, which is not chosen.
        thresholds=np.where(midway == highest_of_rest, values[ends], midway),
        num_chosen=ends + 1,
        num_found=labels.astype(bool)[order].cumsum()[ends],
        above_all=float(np.nextafter(values[0], np.inf)),
    )
