from typing import get_args

import pytest
from pydantic import ValidationError

from kl3m_embeddings.local_tasks.settings import SCORES, LocalTaskSettings, LocalTaskType


def settings(**fields):
    return LocalTaskSettings.model_validate({"name": "mine", "type": "STS"} | fields)


def test_every_type_has_scores_the_default_first():
    assert SCORES.keys() == set(get_args(LocalTaskType))
    for kind, names in SCORES.items():
        assert settings(type=kind).score == names[0]
        for name in names:
            assert settings(type=kind, main_score=name).score == name


@pytest.mark.parametrize("kind", SCORES)
def test_a_score_of_another_type_is_refused(kind):
    other = "v_measure" if kind != "Clustering" else "ndcg_at_10"
    with pytest.raises(ValidationError, match=f"main_score: {kind} has no '{other}': "):
        settings(type=kind, main_score=other)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, None),
        ("find: ", {"query": "find: ", "document": "find: "}),
        ("", {"query": "", "document": ""}),
        ({"query": "q: "}, {"query": "q: "}),
        ({"query": "q: ", "document": "d: "}, {"query": "q: ", "document": "d: "}),
    ],
)
def test_one_prompt_is_that_of_both_sides(prompt, expected):
    assert settings(prompt=prompt).prompts() == expected


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", "a b", "x" * 101])
def test_a_name_is_one_that_a_file_can_have(name):
    with pytest.raises(ValidationError):
        settings(name=name)
    assert settings(name="Law-2.0_x").name == "Law-2.0_x"


@pytest.mark.parametrize("split", ["", "../test", "a.b"])
def test_a_split_is_part_of_a_files_name(split):
    with pytest.raises(ValidationError):
        settings(split=split)
