"""What a row of a source becomes: a document, or a reason why it is none."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kl3m_embeddings.errors import ConfigError, did_you_mean

BYTES_PER_MB = 1 << 20

EMPTY = "empty"
NO_TEXT = "no text"
NOT_TEXT = "not a text"
NUL = "NUL"
TOO_LONG = "too long"
INVALID_UTF8 = "invalid UTF-8"


class Document(NamedTuple):
    """A text with a stable id, and the values of the columns that are kept beside it, as text."""

    id: str
    text: str
    kept: tuple[str | None, ...] = ()


class Skipped(NamedTuple):
    """A row that is no document: where it is and why."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What to read from a row.

    Attributes:
        id_column: where a row has no such value, its id is `<file name>:<row>`, counted from 1.
        keep_columns: what else is kept of a row; null where a row has no such value.
        max_line_mb: longer lines and texts are skipped, in bounded memory.
        on_bytes: told how many bytes of the files were read, compressed as they are.
    """

    text_column: str = "text"
    id_column: str = "id"
    keep_columns: tuple[str, ...] = ()
    max_line_mb: int = 64
    on_bytes: Callable[[int], None] = lambda _: None

    @property
    def max_bytes(self) -> int:
        """The longest line allowed."""
        return self.max_line_mb * BYTES_PER_MB


def counted(reasons: Mapping[str, int]) -> str:
    """Reasons with their numbers, as messages have them: 3 empty, 1 no text."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none"


def require_column(options: ReadOptions, columns: Sequence[str], location: str) -> None:
    """Check that there is one text column.

    Raises:
        ConfigError: naming the columns there are.
    """
    found = list(columns).count(options.text_column)
    if found != 1:
        what = "no column" if found == 0 else "more than one column"
        raise ConfigError(
            f"{location}: {what} {options.text_column!r} among {', '.join(map(repr, columns))}"
            f"{did_you_mean(options.text_column, columns)}; "
            "name the text's column with --text-column"
        )


def record_of(
    values: Mapping[str, object], name: str, row: int, line: int, options: ReadOptions
) -> Document | Skipped:
    """The document in a row's values, or why there is none.

    Args:
        values: by column.
        name: of the file.
        row: counted from 1, for ids.
        line: where the row starts in the file, for messages.
        options: the columns' names and the limit.
    """
    text = values.get(options.text_column)
    given_id = values.get(options.id_column)
    document_id = str(given_id) if isinstance(given_id, str | int) else ""
    document_id = document_id or f"{name}:{row}"
    if not isinstance(text, str):
        return Skipped(name, line, NO_TEXT if text is None else NOT_TEXT)
    reason = fault_of(text, options) or fault_of(document_id, options)
    if reason:
        return Skipped(name, line, reason)
    return Document(document_id, text, tuple(map(as_text, map(values.get, options.keep_columns))))


def as_text(value: object) -> str | None:
    """A value of a column that is kept: text as it is, other values as JSON has them."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def fault_of(text: str, options: ReadOptions) -> str | None:
    """What keeps a string from being clean text, if anything."""
    if not text or text.isspace():
        return EMPTY
    if "\0" in text:
        return NUL
    if text.isascii():
        num_bytes = len(text)
    else:
        try:
            num_bytes = len(text.encode())
        except UnicodeEncodeError:
            return INVALID_UTF8  # a lone surrogate
    return TOO_LONG if num_bytes > options.max_bytes else None
