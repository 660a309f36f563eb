"""Names of tasks and benchmarks, and lists of them."""

import pytest

from kl3m_embeddings.errors import ConfigError


def test_each_task_once_in_its_order(bench):
    tasks = bench.named_tasks.named_tasks(["STS13", "SciFact", "STS13"])
    assert [task.metadata.name for task in tasks] == ["STS13", "SciFact"]
    assert not any(task.data_loaded for task in tasks)


def test_a_benchmark_stands_for_its_tasks_of_text(bench):
    tasks = bench.named_tasks.named_tasks(["MTEB(eng, v2)", "SciFact"])
    names = [task.metadata.name for task in tasks]
    assert {"STS12", "ArguAna", "SciFact"} <= set(names)
    assert len(set(names)) == len(names) > 40
    assert {tuple(task.metadata.modalities) for task in tasks} == {("text",)}


@pytest.mark.parametrize("order", [1, -1])
def test_what_two_benchmarks_ask_of_a_task_is_all_asked(bench, order):
    names = ["MTEB(eng, v2)", "MTEB(Multilingual, v2)"]
    task = "AmazonCounterfactualClassification"

    def found(*some):
        return {one.metadata.name: one for one in bench.named_tasks.named_tasks(some)}

    english, all_languages = (found(name)[task] for name in names)
    assert (english.hf_subsets, english.eval_splits) == (["en"], ["test"])
    assert {"en", "de", "ja"} <= set(all_languages.hf_subsets)
    both = found(*names[::order])[task]
    assert set(both.hf_subsets) == set(all_languages.hf_subsets)
    assert set(both.eval_splits) == {"validation", "test"}
    assert english.hf_subsets == found(names[0])[task].hf_subsets == ["en"]


def test_all_unknown_names_are_told_each_with_the_nearest(bench):
    with pytest.raises(ConfigError) as caught:
        bench.named_tasks.named_tasks(["SciFakt", "STS12", "MTEB(eng, v22)", "qqqqqqq"])
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("SciFakt: mteb ") and "did you mean SciFact?" in first
    assert "did you mean MTEB(eng, v2)?" in second
    assert third.startswith("qqqqqqq: mteb ") and "see mteb available-tasks" in third


def test_lists(bench, tmp_path):
    read = bench.named_tasks.read_task_list
    path = tmp_path / "names.txt"
    path.write_text("# mine\nSciFact  # claims\n\n  STS12\nMTEB(eng, v2)\n")
    assert read(str(path)) == ["SciFact", "STS12", "MTEB(eng, v2)"]
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match=r"names\.txt: no task name in it: write one a line"):
        read(str(path))
    with pytest.raises(ConfigError, match=r"none\.txt: no such file: .* or one of legalbench"):
        read("none.txt")


def test_the_list_that_ships_is_known_to_mteb(bench):
    names = bench.named_tasks.read_task_list("legalbench")
    assert len(bench.named_tasks.named_tasks(names)) == len(names) == len(set(names)) > 10
