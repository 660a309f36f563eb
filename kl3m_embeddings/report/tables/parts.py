"""What the tables share: few lines, so that numbers fit, and how many names a table shows."""

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import NO_VALUE, printable

MAX_NAMES = 8
NAME_WIDTH = 22
FOLDED_LENGTH = 80  # of a name that may fold
COLUMN_GAP = 3  # characters between the columns of a grid


def note_lines(notes: Iterable[str]) -> Iterator[Text]:
    """What is missing or wrong, one line each."""
    yield from (Text(f"note: {printable(note, 1000)}", style="yellow") for note in notes)


def warning_lines(warnings: Iterable[str]) -> Iterator[Text]:
    """What needs a look, one line each."""
    yield from (Text(f"warning: {printable(text, 1000)}", style="bold red") for text in warnings)


def grid(title: str, *columns: str, gap: int = COLUMN_GAP) -> Table:
    """An empty table: the first column is a name, the others are numbers.

    Args:
        title: may have rich's markup; see `escaped`.
        columns: their headings.
        gap: the characters between columns, at least 1.
    """
    table = Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, gap - 1, 0, 0),  # one character is the line that a box has between columns
        pad_edge=False,
        show_edge=False,
    )
    for position, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if position else "left",
            no_wrap=True,
            max_width=None if position else NAME_WIDTH,
        )
    return table


def fold_names(table: Table) -> None:
    """Let the names of the first column go on in a further line, where others are cut."""
    first = table.columns[0]
    first.no_wrap, first.max_width, first.overflow = False, None, "fold"


def pairs_table(title: str, rows: list[tuple[str, str | None]]) -> Iterator[Table]:
    """A table of names and values; rows without a value are left out."""
    known = [(name, value) for name, value in rows if value and value != NO_VALUE]
    if known:
        table = Table(
            title=f"\n{title}",
            title_justify="left",
            title_style="bold",
            box=None,
            show_header=False,
        )
        for name, value in known:
            table.add_row(name, Text(value))
        yield table


def with_rest(table: Table, names: Sequence[object], limit: int = MAX_NAMES) -> Table:
    """`table` with a caption that says how many of `names` it does not show."""
    if len(names) > limit:
        table.caption = f"and {len(names) - limit:,} more in stats.json"
        table.caption_justify = "left"
    return table


def escaped(name: str) -> str:
    """`name` as a heading that rich does not read as markup."""
    return escape(name)
