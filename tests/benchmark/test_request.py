"""What is asked for is checked before anything is scored."""

from pathlib import Path

import pytest

from kl3m_embeddings.benchmark.scores import Score
from kl3m_embeddings.errors import ConfigError, DataError, RetryError
from tests.benchmark.folders import WRITERS, write_model, write_run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def asked(bench):
    """A function that makes a request."""
    return lambda *models, **fields: bench.request.BenchmarkRequest(models=models, **fields)


def test_names_are_parted_by_commas_outside_of_parentheses(bench):
    split = bench.request.split_names
    assert split("MTEB(eng, v2),SciFact , STS12,") == ["MTEB(eng, v2)", "SciFact", "STS12"]
    assert split("") == []


def test_local_tasks_come_first_then_those_named_then_those_listed(bench, asked, tmp_path):
    folders = [WRITERS["STS"](tmp_path / "alike"), WRITERS["Retrieval"](tmp_path / "find")]
    (tmp_path / "list.txt").write_text("STS14\nSTS12\n")
    request = asked(
        folders=folders, names="STS13,STS12", lists=[str(tmp_path / "list.txt")]
    )  # STS12 is named twice
    names = [task.metadata.name for task in bench.request.chosen_tasks(request)]
    assert names == ["alike", "find", "STS13", "STS12", "STS14"]


def test_no_task_and_two_of_one_name_are_refused(bench, asked, tmp_path):
    with pytest.raises(ConfigError, match="no task: name some of mteb's with --mteb, or a folder"):
        bench.request.chosen_tasks(asked())
    folders = [WRITERS["STS"](tmp_path / name / "alike") for name in "ab"]
    with pytest.raises(ConfigError, match="--task: two tasks are called 'alike': rename one"):
        bench.request.chosen_tasks(asked(folders=folders))


def test_baselines_come_before_the_checkpoints_of_each_model(bench, asked, tmp_path):
    run, model = write_run(tmp_path / "law", steps=(1, 2)), write_model(tmp_path / "tiny")
    request = asked(
        str(run),
        str(model),
        baselines=("bm25", "random"),
        all_checkpoints=True,
        device="cpu",
        precision="float32",
    )
    found = bench.request.chosen_candidates(request)
    assert [(one.name, one.step, one.baseline) for one in found] == [
        ("bm25", None, True), ("random", None, True),
        ("law", 1, False), ("law", 2, False), ("tiny", None, False),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="tiny: given twice"):
        bench.request.chosen_candidates(asked(str(model), str(model), device="cpu"))


def test_results_lie_beside_a_run_or_where_the_command_is_given(asked, tmp_path):
    run = write_run(tmp_path / "law")
    assert asked(str(run)).folder == run / "benchmark"
    assert asked(str(run), out=tmp_path / "x").folder == tmp_path / "x"
    assert asked(str(tmp_path)).folder == Path("benchmark")


def test_dtypes_are_in_their_own_order(bench):
    assert bench.request.checked_dtypes(["binary", "int8"]) == ["int8", "binary"]
    with pytest.raises(ConfigError, match="--dtypes int4: unknown: use float32, int8, binary"):
        bench.request.checked_dtypes(["int8", "int4"])


def test_a_base_that_is_gone_is_told_and_left_out(bench, tmp_path, capsys):
    assert bench.request.can_be_found(str(write_model(tmp_path / "tiny")))
    assert not bench.request.can_be_found(str(tmp_path / "gone"))
    said = capsys.readouterr().err
    assert "not among the baselines" in said
    assert "gone: no such folder" in said


def failed(task, model, error):
    return Score(
        task=task, model=model, error=error, score=None if error else 0.5,
        revision="", step=None, baseline=False, type="STS", split="test", subset="default",
        metric="x", dim=1, full_dim=1, dtype="float32", control=False,
    )  # fmt: skip


def test_failures_are_told_together_and_data_that_is_missing_is_to_be_tried_again(bench):
    check, no_data = bench.request.check_failures, bench.run.NO_DATA
    good = failed("a", "x", None)
    assert check([good]) == check([]) == 0
    with pytest.raises(RetryError) as raised:
        check([good, failed("b", "x", no_data), failed("b", "y", no_data)])
    first, last = str(raised.value).splitlines()
    assert first.startswith(f"b: {no_data}: fetch it where there is a network")
    assert last == "all other scores are saved"
    with pytest.raises(DataError) as raised:
        check([failed("b", "x", no_data), failed("c", "x", "bad"), failed("c", "y", "bad")])
    assert str(raised.value).splitlines()[1] == "c (x, y): bad"
