"""What a page is made of: sections with paragraphs, tables, pictures and neighbours.

Everything is plain text here, and may be hostile: the template escapes it. Tables are those that
the terminal shows, taken over cell by cell.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.tables.scores import BETTER, WORSE

MARKS = {BETTER: "better", WORSE: "worse", "bold": "best"}


@dataclass(frozen=True)
class Cell:
    """A value, a smaller line below it, and how it is marked (`best`, `better`, `worse`)."""

    text: str
    note: str = ""
    mark: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """A table; `left` says which columns are text."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    left: list[bool]
    caption: str = ""
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Paragraph:
    """A sentence or more."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Picture:
    """A plot: its file's name, its headline, and the picture itself as a data URI."""

    name: str
    headline: str
    uri: str
    width: int
    height: int
    kind: str = "picture"


@dataclass(frozen=True)
class Found:
    """A neighbour's text, its similarity, and what is known of its relevance."""

    text: str
    score: str
    relevance: str


@dataclass(frozen=True)
class FoundByModel:
    """What one model finds nearest to a query."""

    model: str
    neighbours: list[Found]


@dataclass(frozen=True)
class NeighbourList:
    """What each model finds nearest to the same query."""

    query: str
    task: str
    models: list[FoundByModel]
    kind: str = "neighbours"


Block = HtmlTable | Paragraph | Picture | NeighbourList


@dataclass(frozen=True)
class Section:
    """A part of the page; `key` is its address, and never from a file."""

    key: str
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Fact:
    """A headline number."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report; `share` is how far the run is, from 0 to 1."""

    title: str
    subtitle: str
    facts: list[Fact]
    warnings: list[str]
    notes: list[str]
    sections: list[Section] = field(default_factory=list)
    share: float | None = None


def blocks_of(renderables: Iterable[RenderableType]) -> Iterator[Block]:
    """The tables and sentences of the terminal as blocks of a page."""
    for renderable in renderables:
        if isinstance(renderable, Table):
            yield as_html_table(renderable)
        elif isinstance(renderable, Text):
            yield Paragraph(renderable.plain.strip())


def as_html_table(table: Table) -> HtmlTable:
    """The table that the terminal shows."""
    cells = [list(column.cells) for column in table.columns]
    return HtmlTable(
        title=plain(table.title),
        columns=[plain(column.header) for column in table.columns] if table.show_header else [],
        rows=[
            [as_cell(value, row.style) for value in values]
            for row, *values in zip(table.rows, *cells, strict=True)
        ],
        left=[column.justify == "left" for column in table.columns],
        caption=plain(table.caption),
    )


def as_cell(value: object, row_style: str | Style | None) -> Cell:
    """The first line of a cell is its value; the rest are asides."""
    text, _, note = plain(value).partition("\n")
    style = row_style
    if isinstance(value, Text):
        # marked is what begins the cell: what is below it may have a style of its own
        first = [span.style for span in value.spans if span.start == 0]
        style = first[0] if first else value.style or row_style
    return Cell(text, note, MARKS.get(str(style), ""))


def plain(value: object) -> str:
    """The text of what rich would show, its own markup taken out."""
    if value is None:
        return ""
    text = value if isinstance(value, Text) else Text.from_markup(str(value))
    return text.plain.strip()
