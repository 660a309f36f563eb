"""What all tables share."""

import io

from rich.console import Console
from rich.text import Text

from kl3m_embeddings.report.tables.parts import (
    escaped,
    fold_names,
    grid,
    note_lines,
    pairs_table,
    warning_lines,
    with_rest,
)


def lines_of(renderable, width=40):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_names_are_cut_or_fold():
    for folds, shown in ((False, ["a" * 21 + "…   1"]), (True, ["a" * 36 + "   1", "a" * 14])):
        table = grid("t", "name", "n")
        if folds:
            fold_names(table)
        table.add_row("a" * 50, "1")
        assert lines_of(table)[4:] == shown


def test_the_gap_between_columns():
    for gap in (1, 3):
        table = grid("t", "a", "b", gap=gap)
        table.add_row("x", "y")
        assert lines_of(table)[-1] == f"x{' ' * gap}y"


def test_rows_without_a_value_are_left_out():
    [table] = pairs_table("t", [("a", "1"), ("b", None), ("c", "-"), ("d", "")])
    assert [str(cell) for cell in table.columns[0].cells] == ["a"]
    assert list(pairs_table("t", [("b", None)])) == []


def test_rows_that_are_not_shown_are_counted():
    assert with_rest(grid("t"), range(1008)).caption == "and 1,000 more in stats.json"
    assert with_rest(grid("t"), range(8)).caption is None
    assert with_rest(grid("t"), range(8), 5).caption == "and 3 more in stats.json"


def test_headings_and_lines_are_text():
    table = grid(escaped("[red]x[/red]"), "a wide enough column")
    assert lines_of(table)[1] == "[red]x[/red]"
    for lines, word in ((note_lines, "note"), (warning_lines, "warning")):
        [text] = lines(["[b]\x1b"])
        assert isinstance(text, Text) and text.plain == f"{word}: [b]?"
