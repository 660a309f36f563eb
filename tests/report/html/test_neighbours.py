"""Nearest texts of queries, model beside model."""

from kl3m_embeddings.report.html.blocks import Found, Paragraph
from kl3m_embeddings.report.html.neighbours import MAX_FOUND, MAX_QUERIES, neighbour_blocks
from kl3m_embeddings.report.read.benchmark_rows import read_query
from tests.report.measured import query_row


def blocks(*rows):
    return neighbour_blocks([read_query(row) for row in rows])


def test_models_are_beside_each_other_at_their_newest_step():
    [block] = blocks(
        query_row(step=3), query_row(), query_row(model="other", step=None), query_row(step=1000)
    )
    assert (block.query, block.task) == ("what?", "NQ")
    assert [found.model for found in block.models] == ["other", "mine, step 1,000"]
    assert block.models[1].neighbours == [
        Found("first", "0.900", "relevant"), Found("second", "0.900", "not relevant"),
        Found("third", "0.900", ""),
    ]  # fmt: skip


def test_texts_are_one_short_line():
    row = query_row("a\n  b " * 500)
    row["neighbours"] *= 5
    [block] = blocks(row)
    assert block.query.startswith("a b a b") and block.query.endswith("…")
    assert len(block.query) == 320
    assert len(block.models[0].neighbours) == MAX_FOUND


def test_queries_that_are_not_shown_are_counted():
    for num_more, told in ((1, "and 1 query more"), (2, "and 2 queries more")):
        rows = [query_row(f"q{index}") for index in range(MAX_QUERIES + num_more)]
        *shown, last = blocks(*rows)
        assert len(shown) == MAX_QUERIES
        assert last == Paragraph(f"{told} in neighbours.jsonl")
