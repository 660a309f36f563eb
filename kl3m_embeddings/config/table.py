"""docs/config.md, made from the fields of the config: `make docs` writes it, a test compares it."""

import json
import sys
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kl3m_embeddings.config.losses import AnyLossOptions
from kl3m_embeddings.config.tasks import TasksConfig
from kl3m_embeddings.config.training import (
    DatasetConfig,
    EvalConfig,
    EvalPairsConfig,
    OptimizerConfig,
    PairFilesConfig,
    SaveConfig,
    TrainingConfig,
)

INTRODUCTION = """\
# training.json

Every field, made from `kl3m_embeddings/config/` by `make docs`. Unknown keys and wrong types are
errors, all of them reported at once. `--set KEY=JSON` on the command line replaces any field, as in
`--set optimizer.peak_lr=1e-4`.
"""
TASKS = {
    f"tasks.{name}": next(one for one in get_args(field.annotation) if one is not NoneType)
    for name, field in TasksConfig.model_fields.items()
}
LOSSES = {
    f"tasks.pairs.loss, {one.model_fields['name'].default}": one for one in get_args(AnyLossOptions)
}
SECTIONS: dict[str, type[BaseModel]] = {
    "tasks": TasksConfig,
    **TASKS,
    **LOSSES,
    "optimizer": OptimizerConfig,
    "data.NAME": DatasetConfig,
    "pairs.NAME": PairFilesConfig,
    "eval": EvalConfig,
    "eval.pairs.NAME": EvalPairsConfig,
    "save": SaveConfig,
}
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def config_markdown() -> str:
    """The whole of docs/config.md."""
    parts = [INTRODUCTION, _table(TrainingConfig)]
    parts += [f"## `{name}`\n\n{one.__doc__}\n\n{_table(one)}" for name, one in SECTIONS.items()]
    return "\n".join(parts)


def _table(section: type[BaseModel]) -> str:
    rows = "\n".join(_row(key, field) for key, field in section.model_fields.items())
    return f"| Key | Type | Default | Meaning |\n|---|---|---|---|\n{rows}\n"


def _row(key: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    others = [c for c in alias.choices if c != key] if isinstance(alias, AliasChoices) else []
    meaning = " ".join((field.description or "").split())
    if others:
        meaning += f" Also spelled `{others[0]}`."
    cells = [f"`{key}`", _type_name(field), _default(field), meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type_name(field: FieldInfo) -> str:
    return ", ".join([_name(field.annotation), *_bounds(field.metadata)])


def _name(annotation: object) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return ", ".join([_name(arguments[0]), *_bounds(arguments[1:])])
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        names = list(dict.fromkeys(_name(one) for one in arguments if one is not NoneType))
        return " or ".join([*names, "null"] if NoneType in arguments else names)
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return "object"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "number or object" if "probability" in annotation.model_fields else "object"
    assert isinstance(annotation, type)
    return TYPE_NAMES[annotation]


def _bounds(metadata: Iterable[object]) -> Iterator[str]:
    """Limits as `≥ 0`, wherever pydantic put them."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        for attribute, sign in BOUNDS.items():
            if (limit := getattr(item, attribute, None)) is not None:
                yield f"{sign} {limit:g}"


def _default(field: FieldInfo) -> str:
    if field.default is not PydanticUndefined:
        return f"`{json.dumps(field.default)}`"
    if field.default_factory is None:
        return "required"
    value = field.default_factory()  # type: ignore[call-arg]
    fields = value.model_dump(exclude_defaults=True) if isinstance(value, BaseModel) else value
    return f"`{json.dumps(fields)}`" if fields else "`{}`"


if __name__ == "__main__":
    sys.stdout.write(config_markdown())
