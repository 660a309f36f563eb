"""Any text as part of a Markdown file with YAML front matter, unable to break out of its place.

In YAML each string is written as JSON, which is YAML, on one line of characters that YAML allows.
In Markdown it is one line, with what Markdown would interpret escaped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MARKDOWN = re.compile(r"([\\`*\[\]<>|~&#$])")


def yaml_lines(value: Mapping[str, Any] | Sequence[Any], indent: str = "") -> Iterator[str]:
    """Block YAML of mappings and lists; the keys are ours, the scalars anybody's."""
    items = value.items() if isinstance(value, Mapping) else [(None, item) for item in value]
    for key, item in items:
        start = "- " if key is None else f"{key}:"
        if isinstance(item, Mapping | list):
            lines = [*yaml_lines(item, indent + "  ")]
            if key is None:
                # The first key of a mapping stands behind the dash, the others below it.
                lines[0] = indent + start + lines[0].lstrip()
            else:
                yield indent + start
            yield from lines
        else:
            yield f"{indent}{start.rstrip()} {yaml_scalar(item)}"


def yaml_scalar(value: int | float | str) -> str:
    """A number or a quoted string on one line, of characters that YAML allows."""
    if not isinstance(value, str):
        number = json.dumps(value, allow_nan=False)
        # To YAML 1.1 a number without a point is not a float, whatever its exponent.
        is_short_float = isinstance(value, float) and "." not in number
        return number.replace("e", ".0e") if is_short_float else number
    quoted = json.dumps(without_surrogates(value), ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def without_surrogates(text: str) -> str:
    """The text with a question mark for each half of a character, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """The text with one space for line breaks and for whatever else cannot be seen."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def inline(text: object) -> str:
    """The text on one line, as it is: Markdown interprets nothing of it."""
    return MARKDOWN.sub(r"\\\1", one_line(str(text)))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; None is a dash, large numbers are grouped."""
    lines = [header, ["---"] * len(header), *([_cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if type(value) is int else inline(value)


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any in the text."""
    text = without_surrogates(text)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
