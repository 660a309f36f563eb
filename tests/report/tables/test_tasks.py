"""Tables of tasks that compare vectors."""

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.output import as_text
from kl3m_embeddings.report.tables.run_tables import render
from tests.report.logs import (
    log_row,
    mixed_eval_row,
    mixed_row,
    pair_eval_row,
    pair_row,
    write_lines,
    write_run,
)


def shown(log):
    return as_text(render(describe_run(read_run(log))))


def test_every_section_of_a_run_of_several_kinds_of_tasks_is_there(tmp_path):
    rows = [mixed_row(step) for step in range(1, 201)]
    text = shown(write_run(tmp_path, 200, rows=rows, evals=mixed_eval_row))
    for title in (
        "Loss", "Loss by window", "Loss by task", "Loss by reduced dimension",
        "Tasks that compare vectors", "Mean similarity", "Evaluation (20 so far)",
        "Held-out pairs: nq", "Held-out pairs: quora", "Held-out pairs: sts", "Data mix",
    ):  # fmt: skip
        assert f"\n{title} " in text, title
    lines = text.splitlines()
    heads = next(line for line in lines if line.startswith("steps ")).split()
    assert set(heads[1:6]) == {"mlm", "nsp", "pairs", "crop", "ssd"}
    best = max(mixed_eval_row(step)["nq/ndcg@10/64"] for step in range(0, 200, 10))
    row = next(line for line in lines if line.startswith("ndcg@10 at 64 "))
    assert row.split()[4] == f"{best:.4f}"
    assert "5,000 documents" in text
    assert "and 8 more at smaller dimensions in stats.json" in text
    assert "temperature" in text


def test_pairs_only(tmp_path):
    rows = [pair_row(step, temperature=None) for step in range(1, 61)]
    text = shown(write_run(tmp_path, rows=rows, evals=pair_eval_row))
    assert "last average of 2 steps" in text
    assert "temperature" not in text
    assert "Held-out pairs: sts" in text
    assert "Loss by reduced dimension" not in text


def test_names_of_sets_and_of_embedding_tasks_are_text(tmp_path):
    name = "[red]x[/red]\x1b[31m"
    rows = [log_row(1), *(pair_row(step, task=name) for step in range(2, 9))]
    log = write_run(tmp_path, rows=rows)
    write_lines(tmp_path / "eval.jsonl", [{"step": 3, f"{name}/ap": 0.5, "[/]/ap": 0.25}])
    text = shown(log)
    assert "\x1b" not in text
    assert text.count("[red]x[/red]?[31m") == 5  # losses, by task, accuracy, similarity, held-out
    assert "Held-out pairs: [/]" in text


def test_many_tasks_and_sets_are_cut_and_counted(tmp_path):
    rows = [pair_row(step, task=f"task{step % 12}") for step in range(1, 60)]
    log = write_run(tmp_path, rows=rows)
    write_lines(tmp_path / "eval.jsonl", [{"step": 3, **{f"set{n}/ap": 0.5 for n in range(11)}}])
    text = shown(log)
    assert text.count("and 4 more in stats.json") == 4
    assert text.count("and 7 more in stats.json") == 1
    assert "and 3 more sets in stats.json" in text
    assert all(len(line) <= 100 for line in text.splitlines())
