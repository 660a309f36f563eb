import pytest
from pydantic import ValidationError

from kl3m_embeddings.config.losses import InfoNCEOptions
from kl3m_embeddings.config.read import parse_training
from kl3m_embeddings.config.tasks import (
    CropOptions,
    IctOptions,
    PairsOptions,
    SimcseOptions,
    TasksConfig,
)
from tests.config.tiny_training import PATH, changed


def test_a_task_is_a_probability_or_an_object():
    number = parse_training(changed(tasks={"mlm": 1}), PATH)
    whole = parse_training(changed(tasks={"mlm": {"probability": 1.0, "mask_rate": 0.15}}), PATH)
    assert number.tasks == whole.tasks
    zero = parse_training(changed(tasks={"mlm": 1.0, "nsp": 0.0}), PATH)
    assert list(zero.tasks.chosen()) == ["mlm"]


def test_probabilities_sum_to_1_and_tasks_of_0_are_not_chosen():
    tasks = TasksConfig.model_validate({"pairs": 0.3, "mlm": 0.7, "crop": 0})
    assert list(tasks.chosen()) == ["mlm", "pairs"]  # in the table's order
    assert list(tasks.embedding()) == ["pairs"]
    for probabilities in ({"mlm": 0.5}, {"mlm": 0.7, "nsp": 0.4}, {}):
        with pytest.raises(ValidationError, match="the probabilities sum to"):
            TasksConfig.model_validate(probabilities)
    parts = TasksConfig.model_validate({"mlm": 0.7, "nsp": 0.1, "nlp": 0.1, "mhm": 0.1})
    assert sum(one.probability for one in parts.chosen().values()) != 1.0  # but near it


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"matryoshka_dims": []}, "matryoshka_dims: none is named"),
        ({"matryoshka_dims": [8, 4, 8]}, "matryoshka_dims: 8 is named twice"),
        ({"matryoshka_dims": [8, 4], "matryoshka_weights": [1.0]}, "1 for 2 matryoshka_dims"),
        ({"matryoshka_weights": [1.0]}, "1 for 0 matryoshka_dims"),
        ({"guide": "x"}, "nothing asks it with the loss infonce"),
        ({"guide": "x", "loss": "triplet"}, "nothing asks it with the loss triplet"),
        ({"seq_len": 7}, "greater than or equal to 8"),
        ({"num_negatives": -1}, "greater than or equal to 0"),
        ({"masking": "word"}, "Extra inputs"),
    ],
)
def test_options_of_pairs_that_contradict_each_other(options, says):
    with pytest.raises(ValidationError, match=says):
        PairsOptions.model_validate({"probability": 1.0} | options)


def test_a_guide_goes_with_a_margin():
    margin = {"false_negative_margin": 0.0}
    options = PairsOptions.model_validate({"probability": 1.0, "guide": "x", "loss": margin})
    assert (options.guide, options.loss.name) == ("x", "infonce")


@pytest.mark.parametrize("kind", [CropOptions, IctOptions, SimcseOptions])
def test_pairs_out_of_the_corpus_take_infonce_alone(kind):
    assert kind.model_validate({"probability": 1.0, "loss": "infonce"}).loss == InfoNCEOptions()
    with pytest.raises(ValidationError, match="'infonce'"):
        kind.model_validate({"probability": 1.0, "loss": "triplet"})
