import json

import pytest

from kl3m_embeddings.commands.bench import compare, grow, table, write
from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.report.plots.growth import growth_figure
from kl3m_embeddings.speed import growth
from kl3m_embeddings.speed.measure import describe_machine, medians
from kl3m_embeddings.speed.sides import Work

WORK = Work(batch_size=4, length=24, precision="float32")


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
