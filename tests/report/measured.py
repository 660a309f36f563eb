"""Small files as the benchmark writes them."""

from tests.report.logs import eval_row, write_lines


def score_row(task="STS", model="mine", score=0.5, **changes):
    """A score of a run's checkpoint at full size."""
    return {
        "model": model, "revision": "abc", "step": 60, "baseline": False, "task": task,
        "type": "Retrieval", "split": "test", "subset": "default", "metric": "ndcg_at_10",
        "score": score, "low": score - 0.05, "high": score + 0.05, "num_items": 100, "dim": 64,
        "full_dim": 64, "dtype": "float32", "control": False, "compared_with": None,
        "difference": None, "difference_low": None, "difference_high": None, "time_s": 1.0,
        "error": None, **changes,
    }  # fmt: skip


def baseline_row(task="STS", model="other", score=0.4, **changes):
    """A score of a model to compare with."""
    return score_row(task, model, score, **{"step": None, "baseline": True, **changes})


def compared_row(task, score, difference, **changes):
    """A score with its difference to `other`, give or take 0.02."""
    ends = {"difference_low": difference - 0.02, "difference_high": difference + 0.02}
    return score_row(
        task, score=score, compared_with="other", difference=difference, **ends, **changes
    )


def score_rows():
    """Two tasks, a model with a baseline, an earlier step, sizes, precisions, a failure."""
    rows = [compared_row("STS", 0.5, 0.1), compared_row("NQ", 0.3, -0.01)]
    rows += [baseline_row("STS"), baseline_row("NQ", score=0.31)]
    rows += [score_row(task, step=30, score=0.2) for task in ("STS", "NQ")]
    rows += [
        score_row(task, score=0.1 + dim / 200, dim=dim, control=control)
        for task in ("STS", "NQ")
        for dim in (16, 32)
        for control in (False, True)
    ]
    rows += [score_row("NQ", score=0.28, dtype=dtype) for dtype in ("int8", "binary")]
    return [*rows, score_row("Lost", error="no such file") | {"score": None}]


def query_row(query="what?", **changes):
    """What a model finds nearest to a query."""
    found = [("first", True), ("second", False), ("third", None)]
    neighbours = [{"text": text, "score": 0.9, "relevant": relevant} for text, relevant in found]
    row = {"model": "mine", "step": 60, "task": "NQ", "query": query, "neighbours": neighbours}
    return {**row, **changes}


def spectrum_rows(model="mine"):
    """Two layers, and the embeddings."""
    layer = {
        "model": model, "step": 60, "kind": "layer", "shape": [64, 256],
        "singular_values": [4.0, 2.0, 1.0, 0.0], "effective_rank": 30.0, "stable_rank": 9.0,
        "largest_over_mean": 2.0, "largest_over_median": 2.5,
    }  # fmt: skip
    layers = [
        {**layer, "layer": n, "name": f"encoder.layer.{n}.output.dense.weight"} for n in (0, 1)
    ]
    embeddings = {
        "model": model, "step": 60, "kind": "embeddings", "num_texts": 100, "dim": 64,
        "anisotropy": 0.1, "uniformity": -2.0, "alignment": None, "effective_rank": 40.0,
        "singular_values": [9.0, 3.0, 1.0],
    }  # fmt: skip
    return [*layers, embeddings]


def probe_eval_row(step):
    """An evaluation with two tasks that measure the embeddings."""
    score = 1 - 1 / (1 + step / 20)
    probes = {"tasks/sts/spearman": 0.8 * score, "tasks/nq/ndcg_at_10": 0.5 * score}
    return {**eval_row(step), **probes, "tasks/nq/ndcg_at_10/16": 0.1, "tasks/nq/other": 0.2}


def write_measured(folder, scores=None, queries=None, spectra=None):
    """The three files in a run's folder."""
    (folder / "benchmark").mkdir(parents=True, exist_ok=True)
    write_lines(folder / "benchmark/scores.jsonl", score_rows() if scores is None else scores)
    write_lines(
        folder / "benchmark/neighbours.jsonl", [query_row()] if queries is None else queries
    )
    write_lines(folder / "spectra.jsonl", spectrum_rows() if spectra is None else spectra)
