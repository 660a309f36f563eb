"""Writes whole files or none: each is made beside its place and renamed into it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from kl3m_embeddings.report.errors import OUTPUT, ReportError
from kl3m_embeddings.report.names import printable

TEXT_WIDTH = 100


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when the block ends well."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be written: {error.strerror}: choose another folder with --out", OUTPUT
        ) from None


def write_statistics(
    folder: Path, renderables: Sequence[RenderableType], statistics: object
) -> list[Path]:
    """Write `stats.txt`, as the terminal shows it, and `stats.json`."""
    text, numbers = folder / "stats.txt", folder / "stats.json"
    with whole_file(text) as path, path.open("w", encoding="utf-8") as file:
        console = Console(file=file, width=TEXT_WIDTH, color_system=None, legacy_windows=False)
        for renderable in renderables:
            console.print(renderable)
    with whole_file(numbers) as path:
        path.write_text(json.dumps(statistics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
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
