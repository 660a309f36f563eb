import json

import pytest
from typer.testing import CliRunner

from kl3m_embeddings.commands.bench import compare, grow, table, write
from kl3m_embeddings.commands.cli import app
from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.errors import ConfigError, OutputError
from kl3m_embeddings.report.plots.growth import growth_figure
from kl3m_embeddings.speed import growth
from kl3m_embeddings.speed.measure import describe_machine, medians
from kl3m_embeddings.speed.sides import Work
from tests.tiny_model import NO_DROPOUT, TINY_CONFIG

WORK = Work(batch_size=4, length=24, precision="float32")


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY_CONFIG | NO_DROPOUT))
    return path


def numbers(speed, step_s=0.5):
    """What a side's run tells."""
    phases = {"forward_s": 0.1, "backward_s": 0.25, "optimizer_s": 0.15}
    rates = {"tokens_per_s": speed, "flops": speed * 1e6, "flops_limit": 4e9, "first_loss": 5.5}
    return {"step_s": step_s, "peak_memory_gb": 1.25, **rates, **phases}


def test_sides_take_turns_and_medians_are_of_their_runs(monkeypatch, tmp_path):
    speeds = iter([10.0, 1.0, 30.0, 2.0, 20.0, 6.0])
    asked = []

    def measure_apart(side, config, work, **settings):
        asked.append((side, config, work, settings))
        return numbers(next(speeds))

    monkeypatch.setattr("kl3m_embeddings.speed.measure.measure_apart", measure_apart)
    report = compare(["ours", "plain"], tmp_path, WORK, 3, {"num_steps": 2})
    assert asked == [(side, tmp_path, WORK, {"num_steps": 2}) for side in ("ours", "plain")] * 3
    assert {name: one["tokens_per_s"] for name, one in report["medians"].items()} == {
        "ours": 20.0, "plain": 2.0
    }  # fmt: skip
    assert [one["tokens_per_s"] for one in report["runs"]["plain"]] == [1.0, 2.0, 6.0]


def test_sides_are_beside_the_last_one_and_the_limit():
    """Every number within 80 characters."""
    side = {
        "tokens_per_s": 1_234_567.0, "flops": 1e12, "flops_limit": 2e12, "peak_memory_gb": 123.4,
        "step_s": 13.3, "forward_s": 4.1, "backward_s": 8.9, "optimizer_s": 0.3,
    }  # fmt: skip
    sides = {"ours": side, "transformers": side | {"tokens_per_s": 617_283.5, "flops": 5e11}}
    lines = table(sides, Work(batch_size=64, length=128, precision="bfloat16")).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].rstrip() == "64 x 128 tokens, bfloat16; times in ms"
    assert [line.split() for line in lines[-3:-1]] == [
        ["ours", "1,234,567", "2.00", "50", "123.4", "13,300", "4,100", "8,900", "300"],
        ["transformers", "617,284", "1.00", "25", "123.4", "13,300", "4,100", "8,900", "300"],
    ]
    assert lines[-1] == "limit: one large matrix product, 2,000 GFLOP/s"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    write(None, {"a": 1})
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: cannot be written: "):
        write(tmp_path / "file" / "speed.json", {})


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--sides", "ours,theirs"), "--sides theirs: choose of ours, transformers, plain"),
        (("--precision", "int8"), "--precision int8: choose one of "),
    ],
)
def test_unknown_sides_and_precisions_are_told_before_anything_is_timed(config_file, option, says):
    with pytest.raises(ConfigError, match=says):
        CliRunner().invoke(app, ["bench", str(config_file), *option], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sides_take_turns_and_what_fails_is_left_out(config_file, tmp_path, monkeypatch, capsys):
    settings = {"device": "cpu", "num_steps": 1}
    report = compare(["ours", "transformers"], config_file, WORK, 1, settings)
    assert report["medians"]["ours"] == medians(report["runs"]["ours"])
    assert "ours" in table(report["medians"], WORK)
    points = [("batch", 4, WORK), ("layers", 2, Work(batch_size=4, length=24, num_layers=0))]
    monkeypatch.setattr(growth, "points", lambda *_: points)
    rows = grow(config_file, load_architecture(config_file), WORK, settings)
    assert [(row["axis"], row["size"]) for row in rows] == [("batch", 4)]
    assert "warning: layers 2: left out" in capsys.readouterr().err
    assert growth_figure(rows, describe_machine("cpu")).axes
    write(tmp_path / "new" / "speed.json", report)
    assert json.loads((tmp_path / "new" / "speed.json").read_text()) == report
