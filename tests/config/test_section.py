import math

import pytest
from pydantic import TypeAdapter, ValidationError

from kl3m_embeddings.config.section import (
    Count,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class Room(Section):
    """A section to try."""

    seats: PositiveInt = 4
    """How many."""
    name: str = "x"


def errors_of(**fields):
    with pytest.raises(ValidationError) as raised:
        Room.model_validate(fields)
    return {(one["loc"][0], one["type"]) for one in raised.value.errors()}


def test_unknown_keys_and_wrong_types_are_errors_all_at_once():
    assert errors_of(seat=3, seats="4", name=5) == {
        ("seat", "extra_forbidden"),
        ("seats", "int_type"),
        ("name", "string_type"),
    }
    assert errors_of(seats=True) == {("seats", "int_type")}
    assert errors_of(seats=4.0) == {("seats", "int_type")}


def test_nothing_changes_and_a_fields_docstring_describes_it():
    with pytest.raises(ValidationError, match="frozen"):
        Room().seats = 5
    assert Room.model_fields["seats"].description == "How many."


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Probability, [0.0, 0.5, 1.0], [-1e-9, 1.0 + 1e-9]),
        (PositiveInt, [1, 10**12], [0, -1]),
        (Count, [0, 3], [-1]),
        (PositiveFloat, [1e-300, 2.0], [0.0, -1.0]),
        (NonNegativeFloat, [0.0, 2.0], [-1e-300]),
    ],
)
def test_numbers_have_bounds(kind, good, bad):
    adapter = TypeAdapter(kind)
    assert [adapter.validate_python(value) for value in good] == good
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_number_of_a_section_is_finite(value):
    class Rate(Section):
        rate: float

    with pytest.raises(ValidationError, match="finite"):
        Rate.model_validate({"rate": value})


def test_no_number_is_larger_than_an_arrays():
    class Rooms(Section):
        seats: list[int] | int

    largest = 2**63 - 1
    assert Rooms(seats=largest).seats == largest
    for value in (2**63, -(2**63), 10**4000, [1, 2**63]):
        with pytest.raises(ValidationError, match=r"seats: -?\d+\.\.\. is too large"):
            Rooms.model_validate({"seats": value})
