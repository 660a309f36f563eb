"""What a run is scored on by describe.py; whole commands are tried in test_mteb.py."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pytest

from kl3m_embeddings.errors import ConfigError
from tests.benchmark.folders import WRITERS, write_model, write_run

pytestmark = [pytest.mark.usefixtures("bench"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def asked(tmp_path):
    """A function: what is asked for a run with these fields of training.json."""

    def ask(options=None, *, log=None, **fields):
        from kl3m_embeddings.commands.scoring import run_request

        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        defaults = {"tokenizer": "x", "optimizer": {"total_steps": 1}}
        (folder / "training.json").write_text(json.dumps(defaults | fields))
        given = {
            "mteb": "STS12", "mteb_file": ["list.txt"], "task": [Path("t")], "baseline": ["bm25"],
            "all_checkpoints": False,
        }  # fmt: skip
        return run_request(folder / log if log else folder, Namespace(**given | (options or {})))

    return ask


@pytest.mark.parametrize("log", [None, "log.jsonl"])
def test_a_run_is_scored_by_its_folder_or_its_log(asked, tmp_path, log):
    request = asked({"all_checkpoints": True}, log=log)
    assert request.models == [str(tmp_path / "run")]
    assert (request.names, request.lists, request.folders) == ("STS12", ["list.txt"], [Path("t")])
    assert request.all_checkpoints
    assert request.folder == tmp_path / "run" / "benchmark"


def test_its_matryoshka_sizes_are_scored_with_fewer_bits_too(asked):
    crop = {"probability": 0.5, "matryoshka_dims": [32, 8]}
    tasks = {"crop": crop, "simcse": {"probability": 0.5, "matryoshka_dims": [16, 8]}}
    request = asked(tasks=tasks)
    assert (request.dims, request.dtypes) == ([8, 16, 32], ["int8", "binary"])
    plain = asked(tasks={"mlm": 1.0})
    assert (plain.dims, plain.dtypes) == ([], [])


def test_what_it_started_from_stands_beside_it_once_if_it_is_still_there(asked, tmp_path, capsys):
    base = str(write_model(tmp_path / "base"))
    assert asked(init_from=base).baselines == ["bm25", base]
    assert asked({"baseline": [base]}, init_from=base).baselines == [base]
    assert asked(init_from=str(tmp_path / "gone")).baselines == ["bm25"]
    assert "not among the baselines" in capsys.readouterr().err


def test_columns_stand_as_the_models_were_asked_for(bench, tmp_path, capsys):
    """Not as earlier calls have left them in the file."""
    from kl3m_embeddings.commands.scoring import run_benchmark

    run = write_run(tmp_path / "law", steps=(100, 20, 3))

    def score(model, **options):
        request = bench.request.BenchmarkRequest(
            models=[str(model)],
            folders=[WRITERS["STS"](tmp_path / "alike")],
            out=tmp_path / "out",
            device="cpu",
            **options,
        )
        assert run_benchmark(request) == 0
        return re.findall(r"step (\d+)", capsys.readouterr().out)

    assert score(run / "checkpoint-20") == ["20"]
    assert score(run, all_checkpoints=True) == ["3", "20", "100"]


def test_a_log_without_a_model_folder_cannot_be_scored(tmp_path):
    from kl3m_embeddings.commands.scoring import run_request

    with pytest.raises(ConfigError, match=r"training\.json: no such file: .*; use kl3m mteb"):
        run_request(tmp_path / "log.jsonl", Namespace())


def test_what_is_compared_with_must_be_among_the_models(bench, tmp_path):
    from kl3m_embeddings.commands.scoring import run_benchmark

    request = bench.request.BenchmarkRequest(
        models=[str(write_model(tmp_path / "tiny"))],
        folders=[WRITERS["STS"](tmp_path / "alike")],
        compare_with="tinny",
        out=tmp_path / "out",
        device="cpu",
    )
    message = r"--compare-with tinny: not among the models \(did you mean tiny\?\)"
    with pytest.raises(ConfigError, match=message):
        run_benchmark(request)
    assert not (tmp_path / "out").exists()
