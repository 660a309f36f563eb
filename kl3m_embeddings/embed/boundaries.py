"""Where chunks had better end: sentences, lines, paragraphs, or what a function says."""

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from kl3m_embeddings.data.sentence_ends import sentence_ends
from kl3m_embeddings.embed.windows import Boundaries
from kl3m_embeddings.errors import ConfigError, DataError, first_line

Split = Callable[[str, float], Boundaries]
"""(text, the part of a chunk that may be given up for it): its boundaries."""

LINE_END = re.compile(r"\r\n|[\n\r\u2028\u2029]")
PARAGRAPH_END = re.compile(r"(?:\r\n|\n|\r)[^\S\n\r]*(?:\r\n|[\n\r]\s*)|\u2029")


def whole_text(text: str, tolerance: float) -> Boundaries:
    """Nowhere."""
    del text, tolerance
    return Boundaries()


def at_sentences(text: str, tolerance: float) -> Boundaries:
    """Where sentences end."""
    return Boundaries(sentence_ends(text), tolerance)


def by_lines(text: str, tolerance: float) -> Boundaries:
    """Of whole lines."""
    del tolerance
    return Boundaries([match.end() for match in LINE_END.finditer(text)], 1.0, are_units=True)


def by_paragraphs(text: str, tolerance: float) -> Boundaries:
    """Of whole paragraphs, which empty lines part."""
    del tolerance
    ends = [match.end() for match in PARAGRAPH_END.finditer(text)]
    return Boundaries(ends, 1.0, are_units=True)


SPLITS: dict[str, Split] = {"lines": by_lines, "paragraphs": by_paragraphs}
"""The units that chunks can be made of, by name."""


def splitter(name: str) -> Split:
    """Of the units that SPLITS has, or that a function of the user gives.

    Args:
        name: `lines`, `paragraphs`, or `module:function` of a function that takes a text and gives
            the units' spans, as pairs of positions.

    Raises:
        ConfigError: there is no such function.
    """
    if name in SPLITS:
        return SPLITS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"--by {name}: choose {', '.join(SPLITS)} or module:function")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--by {name}: {first_line(error)}") from error
    if not callable(function):
        raise ConfigError(f"--by {name}: is no function")

    def by_function(text: str, tolerance: float) -> Boundaries:
        del tolerance
        return Boundaries(_ends(function(text), len(text), name), 1.0, are_units=True)

    return by_function


def _ends(spans: Iterable[Any], length: int, name: str) -> list[int]:
    """The ends of the spans that a user's function gave.

    Raises:
        DataError: they are no spans of the text, or not in order.
    """
    ends: list[int] = []
    for span in spans:
        try:
            start, end = map(int, span)
        except (TypeError, ValueError):
            raise DataError(f"--by {name}: gave {span!r}, which is no pair of positions") from None
        if not (ends[-1] if ends else 0) <= start <= end <= length:
            raise DataError(
                f"--by {name}: gave {start} to {end} of a text of {length} characters, behind "
                f"{ends[-1] if ends else 0}: spans must be in order, and inside of the text"
            )
        ends.append(end)
    return ends
