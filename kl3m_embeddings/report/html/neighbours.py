"""Nearest neighbours of sample queries, the models side by side."""

from collections.abc import Sequence

from kl3m_embeddings.report.html.blocks import Block, Found, FoundByModel, NeighbourList, Paragraph
from kl3m_embeddings.report.names import counted, number, printable
from kl3m_embeddings.report.read.benchmark import newest
from kl3m_embeddings.report.read.benchmark_rows import Query

MAX_QUERIES, MAX_MODELS, MAX_FOUND = 12, 4, 5
TEXT_LENGTH = 320
RELEVANCE = {True: "relevant", False: "not relevant", None: ""}


def neighbour_blocks(queries: Sequence[Query]) -> list[Block]:
    """What each model finds nearest to the first queries."""
    by_query: dict[tuple[str, str], list[Query]] = {}
    for query in newest(queries):
        by_query.setdefault((query.task, query.query), []).append(query)
    blocks: list[Block] = [
        NeighbourList(
            query=one_line(text),
            task=printable(task),
            models=[found_by(query) for query in of_query[:MAX_MODELS]],
        )
        for (task, text), of_query in list(by_query.items())[:MAX_QUERIES]
    ]
    left_out = len(by_query) - MAX_QUERIES
    if left_out > 0:
        more = counted(left_out, "query").replace("querys", "queries")
        blocks.append(Paragraph(f"and {more} more in neighbours.jsonl"))
    return blocks


def found_by(query: Query) -> FoundByModel:
    """The first texts that a model found."""
    step = "" if query.step is None else f", step {query.step:,}"
    return FoundByModel(
        model=f"{printable(query.model, 60)}{step}",
        neighbours=[
            Found(one_line(one.text), number(one.score, 3), RELEVANCE[one.relevant])
            for one in query.neighbours[:MAX_FOUND]
        ],
    )


def one_line(text: str) -> str:
    """The beginning of a document, its line breaks and indents as single spaces."""
    return printable(" ".join(text[: 4 * TEXT_LENGTH].split()), TEXT_LENGTH)
