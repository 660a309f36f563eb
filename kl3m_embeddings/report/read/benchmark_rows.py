"""The rows that the benchmark and the spectra write: typed, checked, safe to draw.

A field that does not matter for a row's meaning may be missing; a row without one that does is bad.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kl3m_embeddings.errors import DataError

FULL_PRECISION = "float32"
MAX_NEIGHBOURS = 100
MAX_SINGULAR_VALUES = 1024
LARGEST = 2**53


@dataclass(frozen=True, kw_only=True)
class Score:
    """A model's score on one task, at one size and precision of the embedding.

    `low` and `high` bound its 95% bootstrap interval. The benchmark, on which the report does not
    depend, has a record of the same fields for what it writes; a test holds the two equal.
    """

    model: str
    step: int | None
    baseline: bool
    task: str
    type: str
    split: str
    subset: str
    metric: str
    score: float | None
    dim: int
    full_dim: int
    dtype: str
    control: bool
    """Dimensions drawn at random, not the first ones."""
    low: float | None = None
    high: float | None = None
    num_items: int | None = None
    compared_with: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    time_s: float | None = None
    error: str | None = None

    @property
    def of(self) -> tuple[str, str, str, str, str]:
        """What the score is of: type, task, subset, split and metric."""
        return self.type, self.task, self.subset, self.split, self.metric

    @property
    def is_plain(self) -> bool:
        """Whether the vectors were as the model gives them: whole, and at full precision."""
        return self.dim == self.full_dim and self.dtype == FULL_PRECISION and not self.control


@dataclass(frozen=True)
class Neighbour:
    """A text that a model found, and whether it was one to be found."""

    text: str
    score: float | None
    relevant: bool | None


@dataclass(frozen=True)
class Query:
    """What a model finds nearest to a text."""

    model: str
    step: int | None
    task: str
    query: str
    neighbours: list[Neighbour]


@dataclass(frozen=True)
class Spectrum:
    """The singular values, descending, of a layer's weights or (no `layer`) of embeddings.

    `numbers` are those of its fields that are numbers and are there.
    """

    model: str
    step: int | None
    layer: int | None
    name: str
    shape: tuple[int, int] | None
    singular_values: list[float]
    numbers: dict[str, float]

    @property
    def kind(self) -> str:
        """What all layers call these weights: what follows the layer's number in the name."""
        _, found, rest = f".{self.name}".rpartition(f".{self.layer}.")
        return (rest if found else self.name or "weights").removesuffix(".weight") or self.name


LAYER_NUMBERS = ("effective_rank", "stable_rank", "largest_over_mean", "largest_over_median")
EMBEDDING_NUMBERS = (
    "num_texts", "dim", "anisotropy", "uniformity", "alignment", "effective_rank",
)  # fmt: skip


def read_score(row: object) -> Score:
    """A line of scores.jsonl."""
    fields = as_object(row)
    dim = whole(fields, "dim") or whole(fields, "full_dim") or 0
    return Score(
        model=text(fields, "model"),
        step=whole(fields, "step"),
        baseline=fields.get("baseline") is True,
        task=text(fields, "task"),
        type=text(fields, "type", ""),
        split=text(fields, "split", ""),
        subset=text(fields, "subset", ""),
        metric=text(fields, "metric", ""),
        **{name: real(fields, name) for name in ("score", "low", "high", "time_s")},
        num_items=whole(fields, "num_items"),
        dim=dim,
        full_dim=whole(fields, "full_dim") or dim,
        dtype=text(fields, "dtype", FULL_PRECISION),
        control=fields.get("control") is True,
        compared_with=text(fields, "compared_with", "") or None,
        **{f"difference{end}": real(fields, f"difference{end}") for end in ("", "_low", "_high")},
        error=text(fields, "error", "") or None,
    )


def read_query(row: object) -> Query:
    """A line of neighbours.jsonl."""
    fields = as_object(row)
    found = fields.get("neighbours")
    if not isinstance(found, list):
        raise DataError("no usable neighbours")
    neighbours = [as_object(one) for one in found[:MAX_NEIGHBOURS]]
    return Query(
        model=text(fields, "model"),
        step=whole(fields, "step"),
        task=text(fields, "task", ""),
        query=text(fields, "query"),
        neighbours=[
            Neighbour(text(one, "text"), real(one, "score"), truth(one, "relevant"))
            for one in neighbours
        ],
    )


def read_spectrum(row: object) -> Spectrum:
    """A line of spectra.jsonl."""
    fields = as_object(row)
    kind = fields.get("kind")
    if kind not in ("layer", "embeddings"):
        raise DataError("no usable kind")
    is_layer = kind == "layer"
    layer = whole(fields, "layer")
    if is_layer and layer is None:
        raise DataError("no usable layer")
    given = fields.get("singular_values")
    values = [as_real(value) for value in (given if isinstance(given, list) else [])]
    known = {
        name: real(fields, name) for name in (LAYER_NUMBERS if is_layer else EMBEDDING_NUMBERS)
    }
    return Spectrum(
        model=text(fields, "model"),
        step=whole(fields, "step"),
        layer=layer if is_layer else None,
        name=text(fields, "name", "") if is_layer else "",
        shape=as_shape(fields.get("shape")) if is_layer else None,
        singular_values=[value for value in values[:MAX_SINGULAR_VALUES] if value is not None],
        numbers={name: value for name, value in known.items() if value is not None},
    )


def as_object(row: object) -> Mapping[str, Any]:
    """`row`, if it is an object."""
    if not isinstance(row, dict):
        raise DataError("not an object")
    return row


def text(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field that is text; without a default it must be there."""
    value = fields.get(name)
    if isinstance(value, str) and value:
        return value
    if default is None:
        raise DataError(f"no usable {name}")
    return default


def real(fields: Mapping[str, Any], name: str) -> float | None:
    """A field that is a number."""
    return as_real(fields.get(name))


def as_real(value: object) -> float | None:
    """`value` as a number that can be shown, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and -1e300 < value < 1e300 else None  # type: ignore[operator, arg-type]


def whole(fields: Mapping[str, Any], name: str) -> int | None:
    """A field that is a count."""
    value = fields.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST
    return value if is_count else None


def truth(fields: Mapping[str, Any], name: str) -> bool | None:
    """A field that is true, false or not known."""
    value = fields.get(name)
    return value if isinstance(value, bool) else None


def as_shape(value: object) -> tuple[int, int] | None:
    """A pair of counts, rows and columns, or None."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    rows, columns = (whole({"size": size}, "size") for size in value)
    return (rows, columns) if rows and columns else None
