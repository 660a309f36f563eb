"""The command: what it prints and writes, how it ends."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kl3m_embeddings.commands import describe
from tests.report.logs import (
    eval_row,
    log_row,
    mixed_eval_row,
    mixed_row,
    pair_eval_row,
    pair_row,
    write_lines,
    write_run,
)
from tests.report.measured import write_measured

LAUNCHER = Path(__file__).parents[2] / "describe.py"
PLOTS = 7


def test_one_log(tmp_path, capsys):
    log = write_run(tmp_path / "x")
    assert describe.main([str(log)]) == 0
    shown = capsys.readouterr().out
    assert "Loss by window" in shown
    assert "stats.txt, stats.json, loss_by_step.png" in shown
    assert len(list(log.parent.glob("*.png"))) == PLOTS
    assert (tmp_path / "x/stats.txt").read_text() in shown
    assert "<h1>x</h1>" in (tmp_path / "x/report.html").read_text()
    statistics = json.loads((tmp_path / "x/stats.json").read_text(), parse_constant=pytest.fail)
    assert statistics["progress"]["last_step"] == 60


def test_folder_out_and_window(tmp_path, capsys):
    write_run(tmp_path / "x")
    out = tmp_path / "new/out"
    assert describe.main([str(tmp_path / "x"), "--out", str(out), "--window", "7"]) == 0
    assert "average of 7 steps" in capsys.readouterr().out
    assert len(list(out.iterdir())) == PLOTS + 3
    assert not list((tmp_path / "x").glob("*.png"))


def test_several_logs_are_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name)
    assert describe.main(["a", "b/log.jsonl"]) == 0
    assert "Runs compared" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "comparison").iterdir()}
    assert names == {
        "loss_by_step.png",
        "loss_by_tokens.png",
        "stats.txt",
        "stats.json",
        "report.html",
    }
    assert [run["name"] for run in json.loads(Path("comparison/stats.json").read_text())] == [
        "a",
        "b",
    ]


@pytest.mark.slow
def test_runs_that_compare_vectors(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(
        tmp_path / "a", 80, rows=[mixed_row(step) for step in range(1, 81)], evals=mixed_eval_row
    )
    write_run(tmp_path / "b", rows=[pair_row(step) for step in range(1, 61)], evals=pair_eval_row)
    assert describe.main(["a"]) == 0
    shown = capsys.readouterr().out
    assert "Held-out pairs: nq" in shown
    assert len(list((tmp_path / "a").glob("*.png"))) == PLOTS + 2
    statistics = json.loads((tmp_path / "a/stats.json").read_text(), parse_constant=pytest.fail)
    assert [one["name"] for one in statistics["pair_metrics"]] == ["nq", "quora", "sts"]
    assert {one["name"] for one in statistics["embedding_tasks"]} == {"pairs", "crop", "ssd"}
    assert describe.main(["a", "b"]) == 0
    assert "Held-out pairs compared" in capsys.readouterr().out
    assert len(list((tmp_path / "comparison").glob("*.png"))) == 4


def test_bad_lines_are_told(tmp_path, capsys):
    log = write_lines(tmp_path / "log.jsonl", [log_row(1), "{rubbish", log_row(2)])
    log.write_bytes(log.read_bytes() + b'{"step": 3, "lo')
    assert describe.main([str(log)]) == 0
    shown = capsys.readouterr().out
    assert "log.jsonl: 1 bad line left out: line 2 (not JSON)" in shown
    assert "log.jsonl: last line incomplete, ignored" in shown
    assert "svd_metrics.png is not drawn: eval.jsonl is missing" in shown
    told = json.loads((tmp_path / "stats.json").read_text())["log"]
    assert told["bad_lines"] == [{"line": 2, "reason": "not JSON"}]
    assert told["last_line_incomplete"] is True


def test_a_terminal_that_knows_only_ascii(tmp_path, monkeypatch):
    log = write_run(tmp_path, rows=[log_row(1, task="日本語")])
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert describe.main([str(log)]) == 0
    screen.flush()
    assert b"\\u65e5\\u672c\\u8a9e" in screen.buffer.getvalue()
    assert "日本語" in (tmp_path / "stats.txt").read_text(encoding="utf-8")


def test_empty_log(tmp_path, capsys):
    assert describe.main([str(write_lines(tmp_path / "log.jsonl", []))]) == 0
    assert "no step logged yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "out", "code", "message"),
    [
        (None, "out", 2, "log.jsonl: no such file: train the model first"),
        ("rubbish\n", "out", 65, "log.jsonl:1: not JSON; no line of 1 is one of a training log"),
        (
            '{"step": 1}\n',
            "log.jsonl/out",
            73,
            "cannot be written: Not a directory; make room, or choose another",
        ),
    ],
)
def test_errors_are_one_line_and_a_code(tmp_path, capsys, text, out, code, message):
    log = tmp_path / "log.jsonl"
    if text is not None:
        log.write_text(text)
    assert describe.main([str(log), "--out", str(tmp_path / out)]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["x", "--window", "0"], ["x", "--watch", "0"]])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        describe.main(arguments)
    assert error.value.code == 2
    assert "usage: describe.py" in capsys.readouterr().err


@pytest.mark.slow
def test_watch_draws_again_when_the_log_has_grown(tmp_path, capsys, monkeypatch):
    log = write_run(tmp_path, num_steps=5)
    naps = []

    def nap(_seconds):
        naps.append(json.loads((tmp_path / "stats.json").read_text())["progress"]["last_step"])
        if len(naps) == 2:
            log.write_text(log.read_text() + json.dumps(log_row(6)) + "\n")
        if len(naps) == 3:
            log.rename(tmp_path / "gone")
        if len(naps) == 4:
            (tmp_path / "gone").rename(log)
            (tmp_path / "eval.jsonl").write_text(json.dumps(eval_row(6, mean=0.25)) + "\n")
        if len(naps) == 5:
            write_measured(tmp_path)
        if len(naps) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", nap)
    assert describe.main(["--watch", str(log)]) == 0
    assert naps == [5, 5, 6, 6, 6, 6, 6]
    assert capsys.readouterr().out.count("Ctrl-C ends") == 4
    assert "Benchmark scores" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "stats.json").read_text())["eval"]["last"]["mean"] == 0.25


def test_a_log_may_follow_watch():
    assert describe.with_seconds(["--watch", "a", "b"]) == ["--watch=10.0", "a", "b"]
    assert describe.with_seconds(["a", "--watch"]) == ["a", "--watch=10.0"]
    assert describe.with_seconds(["--watch", "2.5", "a"]) == ["--watch", "2.5", "a"]


def test_the_launcher_loads_nothing_heavy(tmp_path):
    log = write_run(tmp_path)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['describe.py', {str(log)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(LAUNCHER)!r}, run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    assert exit.code == 0, exit.code\n"
        "heavy = {'torch', 'transformers', 'typer', 'pydantic', 'matplotlib.pyplot'}\n"
        "bad = heavy & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=LAUNCHER.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Loss by window" in done.stdout
