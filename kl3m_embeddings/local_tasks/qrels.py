"""Relevance judgements: which documents answer which query, and how well.

Two forms, recognised by the first row: BEIR's `query-id, corpus-id, score` with a header or none,
and TREC's `query-id 0 corpus-id score`. Cells are parted by tabs, or else by spaces; they may be
quoted. A header whose names are in another order is an error: where queries and documents have the
same ids, as numbers are, nothing else would tell.
"""

import csv
import re
from collections.abc import Container, Iterator
from pathlib import Path

from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.data.readers.rows import number_of
from kl3m_embeddings.data.readers.text import csv_lines, opened_bytes
from kl3m_embeddings.errors import DataError

BEIR_CELLS, TREC_CELLS = 3, 4
MAX_GRADE = 2**31
# How the names of columns begin, and where the columns stand in a row.
PLACES = {
    re.compile(r"q(id|uer)|topic", re.IGNORECASE): 0,
    re.compile(r"corpus|doc|pid|passage", re.IGNORECASE): -2,
    re.compile(r"score|grade|rel|label|judg", re.IGNORECASE): -1,
}


def read_qrels(
    path: Path, queries: Container[str], documents: Container[str]
) -> dict[str, dict[str, int]]:
    """Grades by query and document, of the queries that have a relevant document.

    Raises:
        DataError: a row is no judgement, names an id that is not there, or contradicts another;
            or nothing is relevant.
    """
    grades: dict[str, dict[str, int]] = {}
    for line, (query, document, grade) in _judgements(path, queries):
        for name, known, where in ((query, queries, "queries"), (document, documents, "corpus")):
            if name not in known:
                raise DataError(
                    f"{path}:{line}: {name!r} is not in {where}: add it, or leave the row out"
                )
        if grades.setdefault(query, {}).setdefault(document, grade) != grade:
            raise DataError(
                f"{path}:{line}: {document!r} has two grades for {query!r}: keep one of them"
            )
    judged = {query: of_one for query, of_one in grades.items() if max(of_one.values()) > 0}
    if not judged:
        raise DataError(f"{path}: no document is relevant to any query: nothing to score")
    return judged


def _judgements(path: Path, queries: Container[str]) -> Iterator[tuple[int, tuple[str, str, int]]]:
    """Line and content of each row but the header, a first row about no query."""
    options = ReadOptions()
    csv.field_size_limit(options.max_bytes)
    with opened_bytes(str(path), options) as stream:
        lines = csv_lines(stream, options.max_bytes)
        may_be_header = True
        try:
            for line, text in enumerate(lines, start=1):
                cells = _cells(text)
                if not cells:
                    continue
                is_first, may_be_header = may_be_header, False
                if is_first and _is_header(text, cells, queries):
                    _check_header(text, f"{path}:{line}")
                    continue
                if len(cells) not in (BEIR_CELLS, TREC_CELLS) or not _is_grade(cells[-1]):
                    raise DataError(
                        f"{path}:{line}: not a judgement: query-id, corpus-id and a whole number"
                    )
                yield line, (cells[0], cells[-2], int(float(cells[-1])))
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not a table: {error}") from error


def _cells(text: str) -> list[str]:
    """By tabs; or by commas, if that makes a judgement; or by spaces."""
    line = text.rstrip("\r\n")
    if "\t" in line:
        return next(csv.reader([line], delimiter="\t"))
    cells = next(csv.reader([line]), [])
    return cells if len(cells) == BEIR_CELLS and _is_grade(cells[-1]) else line.split()


def _is_header(text: str, cells: list[str], queries: Container[str]) -> bool:
    """Whether a first row ends with no number and is about no query, however it is parted."""
    by_commas = next(csv.reader([text.rstrip("\r\n")]))
    return not (number_of(cells[-1]) is not None or cells[0] in queries or by_commas[0] in queries)


def _check_header(text: str, place: str) -> None:
    """Raise if a header names columns that are not where they are read from."""
    line = text.strip()
    names = line.split("\t") if "\t" in line else re.split(r"[,\s]+", line)
    for index, name in enumerate(one.strip("\" '") for one in names):
        for begins, column in PLACES.items():
            if begins.match(name) and index != column % len(names):
                raise DataError(
                    f"{place}: column {index + 1} is {name!r}: put the columns in the order "
                    "query-id, corpus-id, score, and leave others out"
                )


def _is_grade(cell: str) -> bool:
    number = number_of(cell)
    return number is not None and number.is_integer() and abs(number) < MAX_GRADE
