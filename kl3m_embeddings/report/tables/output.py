"""Where tables go: the terminal, and `stats.txt` and `stats.json`."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from kl3m_embeddings.files.whole import write_whole
from kl3m_embeddings.report.names import printable
from kl3m_embeddings.report.statistics.plain import as_plain
from kl3m_embeddings.report.statistics.run_statistics import RunStatistics

TEXT_WIDTH = 100


def write_statistics(
    folder: Path,
    renderables: Sequence[RenderableType],
    statistics: RunStatistics | list[RunStatistics],
) -> list[Path]:
    """Write `stats.txt`, as the terminal shows it, and `stats.json`."""
    text, numbers = folder / "stats.txt", folder / "stats.json"
    write_whole(text, as_text(renderables))
    write_whole(numbers, json.dumps(as_plain(statistics), indent=2, allow_nan=False) + "\n")
    return [text, numbers]


def as_text(renderables: Iterable[RenderableType]) -> str:
    """What the terminal shows, as plain text."""
    text = io.StringIO()
    console = Console(file=text, width=TEXT_WIDTH, color_system=None, legacy_windows=False)
    for renderable in renderables:
        console.print(renderable)
    return text.getvalue()


def show(renderables: Sequence[RenderableType], written: Sequence[Path], *, clear: bool) -> None:
    """Print the tables, on a cleared screen if `clear`, and say where everything lies."""
    names = ", ".join(path.name for path in written)
    where = Text(f"\n{printable(written[0].parent, 1000)}: {names}")
    console = print_all(renderables, clear=clear)
    console.print(where, soft_wrap=True)


def print_all(renderables: Iterable[RenderableType], *, clear: bool = False) -> Console:
    """Print to the terminal, on a cleared screen if `clear`; returns what it was printed with."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=TEXT_WIDTH)
    elif clear:
        console.clear()
    for renderable in renderables:
        console.print(renderable)
    return console
