"""Reads training.json and its like: all errors at once, each with the file, the key, a remedy."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.errors import ConfigError, did_you_mean
from kl3m_embeddings.files.strict_json import JsonError, parse_json, read_json_object

S = TypeVar("S", bound=BaseModel)
# What sections had once, or have elsewhere -> the key of the whole file that stands for it.
OF_THE_WHOLE = {"distance": "similarity"}


def apply_overrides(fields: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `fields` with each `KEY=JSON` put in; a dotted key reaches into a section.

    A value that is no JSON is taken as a string, so `precision=float32` needs no quotes.
    """
    result: dict[str, Any] = json.loads(json.dumps(fields))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override}: write KEY=VALUE, as in optimizer.peak_lr=1e-4")
        value = _value_of(override, text)
        section = result
        *sections, last = key.split(".")
        for name in sections:
            section = section.setdefault(name, {})
            if isinstance(section, int | float) and not isinstance(section, bool):
                raise ConfigError(f"--set {override}: {name} is a number; set {name} as a whole")
            if not isinstance(section, dict):
                raise ConfigError(f"--set {override}: {name} is not a section")
        section[last] = value
    return result


def _value_of(override: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    """The JSON of an override; what is none is a string."""
    try:
        return parse_json(text)
    except JsonError as error:
        if error.line is not None:
            return text
        raise ConfigError(f"--set {override[:60]}: {error}") from None


def parse_training(fields: dict[str, Any], path: Path) -> TrainingConfig:
    """Check `fields` and return them typed.

    Raises:
        ConfigError: with one line for every error, each naming `path` and the key.
    """
    return parse_section(TrainingConfig, fields, path, "docs/config.md")


def parse_section(kind: type[S], fields: dict[str, Any], path: Path, reference: str) -> S:
    """Check the `fields` of a file that holds one section; `reference` is where keys are explained.

    Raises:
        ConfigError: with one line for every error, each naming `path` and the key.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        lines = [_error_line(kind, path, dict(details), reference) for details in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def load_training(path: Path, overrides: Iterable[str] = ()) -> TrainingConfig:
    """Read and check a training.json."""
    return parse_training(apply_overrides(read_json_object(path), overrides), path)


def _error_line(kind: type[BaseModel], path: Path, details: dict[str, Any], reference: str) -> str:
    location, section = _walk(kind, [str(part) for part in details["loc"]])
    key = ".".join(location)
    if details["type"] == "extra_forbidden":
        hint = did_you_mean(location[-1], section.model_fields, f"see {reference}")
        whole = OF_THE_WHOLE.get(location[-1], location[-1])
        if section is not kind and whole in kind.model_fields:
            hint = f" (write {whole} at the top of the file: there is one for the whole run)"
        return f"{path}: {key}: unknown key{hint}"
    if details["type"] == "missing":
        return f"{path}: {key}: missing, and there is no default (see {reference})"
    if details["type"] == "value_error":
        return f"{path}: {key + ': ' if key else ''}{details['ctx']['error']}"
    if details["type"] == "union_tag_invalid":
        tag, tags = details["ctx"]["tag"], details["ctx"]["expected_tags"].replace("'", "")
        hint = did_you_mean(tag, tags.split(", "), f"one of {tags}")
        return f"{path}: {key}: there is no {tag!r}{hint}"
    return f"{path}: {key}: {details['msg']} (it is {_shown(details['input'])})"


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _walk(root: type[BaseModel], location: list[str]) -> tuple[list[str], type[BaseModel]]:
    """The key that a place names, and the section that its last part is a field of.

    pydantic puts the name of the chosen kind into the place, as in tasks.pairs.loss.infonce.margin;
    a person wrote tasks.pairs.loss.margin.
    """
    section = root
    kinds: dict[str, type[BaseModel]] = {}
    key = []
    for index, name in enumerate(location):
        if name in kinds:
            section, kinds = kinds[name], {}
            continue
        key.append(name)
        if index < len(location) - 1:
            candidates = _section_types(section, name)
            if len(candidates) > 1:
                kinds = {str(one.model_fields["name"].default): one for one in candidates}
            section = candidates[0] if candidates else section
    return key, section


def _section_types(section: type[BaseModel], name: str) -> list[type[BaseModel]]:
    """The sections that the field `name` may hold; none for a key that its user has chosen."""
    field = section.model_fields.get(name)
    if field is None:
        return []
    candidates = [field.annotation, *get_args(field.annotation)]
    return [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
