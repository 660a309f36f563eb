"""The terminal's tables as blocks of a page."""

from rich.text import Text

from kl3m_embeddings.report.html.blocks import Cell, Paragraph, blocks_of
from kl3m_embeddings.report.tables.parts import grid, pairs_table


def test_cells_have_their_marks_and_asides():
    table = grid("A [b]title[/b]", "task", "x")
    table.caption = "and 3 more"
    table.add_row(Text("[red]name"), Text.assemble(("0.5", "bold"), ("\n.4 to .6", "dim")))
    table.add_row("plain", Text.assemble(("+0.1 *", "bold green"), ("\n.1 to .2", "dim")))
    table.add_row("row", Text.assemble(("-0.1 *", "bold red")), style="bold")
    [block] = blocks_of([table])
    assert (block.title, block.columns, block.left) == ("A title", ["task", "x"], [True, False])
    assert block.caption == "and 3 more"
    assert block.rows == [
        [Cell("[red]name"), Cell("0.5", ".4 to .6", "best")],
        [Cell("plain"), Cell("+0.1 *", ".1 to .2", "better")],
        [Cell("row", mark="best"), Cell("-0.1 *", mark="worse")],
    ]


def test_a_table_of_pairs_has_no_heads_and_texts_are_paragraphs():
    [table] = pairs_table("Run", [("steps", "3")])
    blocks = list(blocks_of([table, Text("\na sentence"), "neither"]))
    assert (blocks[0].columns, blocks[0].rows) == ([], [[Cell("steps"), Cell("3")]])
    assert blocks[1:] == [Paragraph("a sentence")]
