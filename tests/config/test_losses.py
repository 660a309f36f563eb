import inspect
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from kl3m_embeddings.config.losses import (
    AnyLossOptions,
    InfoNCEOptions,
    LossOptions,
    TripletOptions,
    loss_arguments,
)
from kl3m_embeddings.losses import LOSSES

OPTIONS = {kind.model_fields["name"].default: kind for kind in get_args(AnyLossOptions)}
LOSS = TypeAdapter(LossOptions)


def test_every_loss_of_pairs_has_options():
    """ssd is a task with a loss of its own."""
    assert OPTIONS.keys() == LOSSES.keys() - {"ssd"}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_and_defaults_are_those_of_the_class(name):
    """Those that depend on how vectors are compared are left to it, and null; so is null."""
    arguments = inspect.signature(LOSSES[name]).parameters.values()
    of_class = {one.name: one.default for one in arguments if one.kind == one.KEYWORD_ONLY}
    assert of_class.pop("similarity") == "cosine"  # the run's, not an option
    options = OPTIONS[name]().model_dump(exclude={"name"})
    assert options.keys() == of_class.keys()
    left = dict.fromkeys(LOSSES[name].beyond_unit_range)
    assert options == of_class | left
    known = {key: value for key, value in of_class.items() if value is not None}
    assert loss_arguments(OPTIONS[name]()) == {k: v for k, v in known.items() if k not in left}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_name_is_the_loss_with_its_defaults(name):
    assert LOSS.validate_python(name) == LOSS.validate_python({"name": name}) == OPTIONS[name]()


def test_options_without_a_name_are_infonces():
    found = LOSS.validate_python({"temperature": 0.1})
    assert found == InfoNCEOptions(temperature=0.1)
    found = LOSS.validate_python({"name": "triplet", "margin": 0.2})
    assert found == TripletOptions(margin=0.2)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("infonse", "does not match any of the expected tags"),
        ({"name": "triplet", "temperature": 0.1}, "Extra inputs"),
        ({"name": "infonce", "temperature": 0.0}, "greater than 0"),
        ({"name": "triplet", "distance": "euclidean"}, "Extra inputs"),
        (3, "dictionary"),
    ],
)
def test_what_is_no_loss_is_told(value, says):
    with pytest.raises(ValidationError, match=says):
        LOSS.validate_python(value)
