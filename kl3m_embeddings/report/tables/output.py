"""Where tables go: the terminal, and `stats.txt` and `stats.json`."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from kl3m_embeddings.files.whole import whole_file, write_whole
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
    with whole_file(text) as path, path.open("w", encoding="utf-8") as file:
        console = Console(file=file, width=TEXT_WIDTH, color_system=None, legacy_windows=False)
        for renderable in renderables:
            console.print(renderable)
    write_whole(numbers, json.dumps(as_plain(statistics), indent=2, allow_nan=False) + "\n")
    return [text, numbers]


def show(renderables: Sequence[RenderableType], written: Sequence[Path], *, clear: bool) -> None:
    """Print the tables, on a cleared screen if `clear`, and say where everything lies."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=TEXT_WIDTH)
    elif clear:
        console.clear()
    for renderable in renderables:
        console.print(renderable)
    names = ", ".join(path.name for path in written)
    console.print(Text(f"\n{printable(written[0].parent, 1000)}: {names}"), soft_wrap=True)
