"""Small logs as the trainer writes them, and the published ones."""

import json
import random

PUBLISHED_STEP = (
    '{"step": 2600, "epoch": 1, "lr": 0.0002, "sample_time": 0.0018472671508789062, '
    '"reduced_dim": 64, "task": "mlm", "num_samples": 128, "num_identifiers": 2, '
    '"num_tokens": 16384, "samples_by_dataset": {"ukleg": 64, "govinfo": 64}, '
    '"tokens_by_dataset": {"ukleg": 8192, "govinfo": 8192}, "loss": 8.297395706176758, '
    '"forward_time": 0.0015826225280761719, "backward_time": 0.0047855377197265625, '
    '"clip_threshold": 3.105683786869049, "step_time": 1.8407979011535645, '
    '"total_time": 298.2537636756897, "token_rate": 119195.14296106658, '
    '"time": "2024-10-22T09:12:42.395676"}'
)
PUBLISHED_EVAL = (
    '{"step": 2600, "mean": 6.590894358307123, "median": 6.974860191345215, '
    '"std": 1.9348315678504489, "min": 0.1022321879863739, "p5": 3.3413278245925904, '
    '"p95": 8.781183547973633, "max": 13.027746200561523, "num_samples": 1000, '
    '"svd_mean_ratio_1": 2.2945302575826645, "svd_median_ratio_1": 2.4049798250198364}'
)


def log_row(step, seed=0, **changes):
    """One step as the trainer logs it; `changes` replace fields."""
    draw = random.Random(f"{seed}-{step}")
    names = draw.sample(["govinfo", "recap", "ukleg"], draw.choice([1, 2]))
    tokens = {name: draw.randrange(500, 600) for name in names}
    phases = {"sample": 0.002, "forward": 0.03, "backward": 0.05, "optimizer": 0.01}
    times = {f"{name}_time": mean * draw.uniform(0.8, 1.2) for name, mean in phases.items()}
    step_time = sum(times.values()) + draw.uniform(0, 0.005)
    return {
        "step": step,
        "epoch": 1,
        "lr": 1e-4 * min(1, step / 20),
        "reduced_dim": draw.choice([None, 64, 128]),
        "task": draw.choice(["mlm", "mlm", "nsp"]),
        "num_samples": 8 * len(names),
        "num_tokens": sum(tokens.values()),
        "samples_by_dataset": dict.fromkeys(names, 8),
        "tokens_by_dataset": tokens,
        "loss": 9 / (1 + step / 30) + draw.uniform(0, 1),
        "accuracy": draw.random(),
        "num_targets": 100,
        "num_fallback": 1,
        "skipped": False,
        "grad_norm": draw.uniform(0.5, 2),
        "clip_threshold": 1.5,
        **times,
        "step_time": step_time,
        "total_time": 0.1 * step,
        "token_rate": sum(tokens.values()) / step_time,
        "padding_fraction": draw.uniform(0, 0.2),
        "device_mb": 1000.0,
        "mfu": 0.3,
        "time": "2026-01-02T03:04:05.678901+00:00",
        **changes,
    }


def pair_row(step, task="pairs", seed=0, **changes):
    """One step of a task that compares vectors."""
    draw = random.Random(f"{seed}-{step}")
    row = log_row(step, seed, task=task, reduced_dim=None)
    del row["num_targets"], row["accuracy"]
    learnt = 1 - 1 / (1 + step / 40)
    row |= {"loss": 3 - 2.5 * learnt + draw.uniform(0, 0.3), "num_pairs": 64, "num_clashes": 1}
    if task == "ssd":
        levels = {
            "same": 0.4 + 0.4 * learnt,
            "similar": 0.4 + 0.1 * learnt,
            "diff": 0.4 - learnt / 3,
        }
    else:
        levels = {"positive": 0.4 + 0.4 * learnt, "negative": 0.35 - 0.3 * learnt}
        row |= {"accuracy": 0.1 + 0.8 * learnt, "temperature": 0.05 - 0.02 * learnt}
    row |= {f"mean_sim_{kind}": level + draw.gauss(0, 0.02) for kind, level in levels.items()}
    return {**row, **changes}


def mixed_row(step, seed=0):
    """One step of a run that mixes tasks of both kinds."""
    task = random.Random(f"task-{seed}-{step}").choice(
        ["mlm", "mlm", "nsp", "pairs", "crop", "ssd"]
    )
    return log_row(step, seed, task=task) if task in ("mlm", "nsp") else pair_row(step, task, seed)


RETRIEVAL = {"ndcg@10": 0.5, "mrr@10": 0.45, "recall@1": 0.35, "recall@10": 0.7, "recall@100": 0.9}
CLASSIFICATION = {"ap": 0.8, "auc": 0.85, "accuracy": 0.78, "f1": 0.75}
SIMILARITY = {"spearman": 0.8, "pearson": 0.78}


def pair_eval_row(step, seed=0, dims=(128, 64), **changes):
    """One evaluation of three sets of held-out pairs, and nothing else."""
    draw, row = random.Random(f"{seed}-{step}"), {"step": step}
    learnt = 0.3 + 0.7 * step / (step + 30)
    for name, metrics in (("nq", RETRIEVAL), ("quora", CLASSIFICATION), ("sts", SIMILARITY)):
        for metric, level in metrics.items():
            for dim in (None, *dims):
                value = level * learnt * (1 if dim is None else dim / (dim + 16))
                suffix = "" if dim is None else f"/{dim}"
                row[f"{name}/{metric}{suffix}"] = value + draw.gauss(0, 0.004)
    row |= {"nq/num_queries": 1000, "nq/num_documents": 5000}
    row |= {"quora/accuracy_threshold": 0.7, "quora/f1_threshold": 0.65}
    return {**row, "quora/num_pairs": 2000, "sts/num_pairs": 1500, **changes}


def mixed_eval_row(step, seed=0):
    """One evaluation of held-out text and of held-out pairs."""
    return eval_row(step) | pair_eval_row(step, seed)


def eval_row(step, **changes):
    """One evaluation."""
    mean = 9 / (1 + step / 40)
    row = {"step": step, "mean": mean, "median": mean, "std": 1.0, "p5": mean / 2, "p95": mean * 2}
    return {**row, "svd_mean_ratio_1": 1.5 + step / 100, "svd_median_ratio_1": 1.6, **changes}


def write_lines(path, rows):
    """Write `rows` as JSON lines; text is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_run(folder, num_steps=60, *, seed=0, evals=eval_row, starts=True, rows=None):
    """A model folder with the files of a run; returns its log. `evals` makes an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    if evals:
        write_lines(folder / "eval.jsonl", [evals(step) for step in range(0, num_steps, 10)])
    if starts:
        start = {
            "event": "start",
            "time": "2026-01-02T03:00:00+00:00",
            "command": ["models/x/"],
            "hardware": {"device": "cpu", "num_cpus": 2},
            "versions": {"torch": "2.15"},
            "training": {"optimizer": {"total_steps": 100}},
        }
        write_lines(folder / "run.jsonl", [{**start, "step": step} for step in (0, 30)])
    if rows is None:
        rows = [log_row(step, seed) for step in range(1, num_steps + 1)]
    return write_lines(folder / "log.jsonl", rows)


def values(rows, task, key):
    """What the steps of a task have of a field."""
    return [row[key] for row in rows if row["task"] == task and row.get(key) is not None]


def write_runs_of_several_kinds(folder):
    """One of each: both kinds of tasks, pairs only, masks only, no steps; returns their logs."""
    mixed = write_run(
        folder / "mixed", evals=mixed_eval_row, rows=[mixed_row(step) for step in range(1, 121)]
    )
    rows = [pair_row(step, seed=1) for step in range(1, 41)]
    pairs = write_run(folder / "pairs", evals=lambda step: pair_eval_row(step, 1), rows=rows)
    masked = write_run(folder / "masked", evals=eval_row)
    return [mixed, pairs, masked, write_run(folder / "empty", evals=pair_eval_row, rows=[])]
