"""How tables of the terminal look: few lines, so that numbers fit into 80 characters."""

from rich import box
from rich.table import Table


def plain_table(title: str, first_column: str, gap: int) -> Table:
    """A table whose first column, of names, folds; `gap` spaces lie between columns."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        pad_edge=False,
    )
    table.add_column(first_column, overflow="fold")
    return table
