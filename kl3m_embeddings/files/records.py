"""The state files that we write ourselves, read as strictly as a user's, and typed.

A file that was cut, emptied, edited or written by another version is a `DamagedError`. Its caller
makes the file again, falls back to an older one, or lets the line with its remedy be told.
"""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.strict_json import JsonError, parse_json

T = TypeVar("T")

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of something, or a size in bytes."""
Positive = Annotated[int, Field(gt=0, lt=2**63)]

_ADAPTERS: dict[Any, Any] = {}
"""What checks each kind of object, made once: a file may have thousands of them."""


class Record(BaseModel):
    """A part of a state file; keys that it does not name are of no interest."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


def read_record(path: Path, kind: type[T], remedy: str) -> T:
    """Read a file that holds one object of this kind: a `Record`, a dataclass, a typed mapping.

    Args:
        path: of the file.
        kind: what it must hold.
        remedy: what helps if it does not.

    Raises:
        DamagedError: naming the file, the key and the remedy.
    """
    return check_record(path, read_object(path, remedy), kind, remedy)


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file that holds one object, whatever is in it. Arguments and errors: as above."""
    try:
        value = parse_json(path.read_bytes())
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror}; {remedy}") from None
    except JsonError as error:
        raise DamagedError(f"{path}: {error}; {remedy}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{path}: holds no object; {remedy}")
    return value


def check_record(place: Path | str, fields: object, kind: type[T], remedy: str) -> T:
    """The fields of a file as an object of this kind.

    Args:
        place: the file, or its line.
        fields: JSON.
        kind: what they must be.
        remedy: what helps if they are not.

    Raises:
        DamagedError: naming the place, the key and the remedy.
    """
    try:
        # through text, so that the types are JSON's: a list is what a tuple is written as; a file's
        # name that is no UTF-8 is none of pydantic's texts, and is not looked at
        text = json.dumps(fields, ensure_ascii=False).encode(errors="replace")
        if kind not in _ADAPTERS:
            _ADAPTERS[kind] = TypeAdapter(kind)
        record: T = _ADAPTERS[kind].validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise DamagedError(f"{place}: {key}: {first['msg']}; {remedy}") from None
    return record
