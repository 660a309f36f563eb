"""The ways in which a file of data comes in: what is read of it, and what is counted, by reason."""

from collections import Counter

from kl3m_embeddings.data.pair_sets.files import PairReader, list_pair_files
from kl3m_embeddings.data.pair_sets.formats import PairRow
from kl3m_embeddings.data.readers.documents import iter_documents
from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.local_tasks.folder import read_local_task
from kl3m_embeddings.local_tasks.make import read_rows


def documents(path):
    skipped = []
    options = ReadOptions(text_column="positive", max_line_mb=1)
    found = [one.text for one in iter_documents(path, options, on_skip=skipped.append)]
    return found, Counter(one.reason for one in skipped)


def pairs(path):
    (file,) = list_pair_files(path)
    rows = list(PairReader(file, ReadOptions(max_line_mb=1)).rows())
    found = [text for row in rows if isinstance(row, PairRow) for text in row.positives]
    return found, Counter(row.reason for row in rows if not isinstance(row, PairRow))


def task_table(path):
    left_out = Counter()
    columns = {"query": "query", "document": "positive"}
    rows = read_rows(path, "Retrieval", columns, left_out)
    return [row["document"] for row in rows], left_out


def folder(path, suffix, content):
    """The texts of a task folder whose file holds this."""
    path.mkdir()
    (path / "task.json").write_text('{"name": "x", "type": "Clustering"}')
    (path / f"test{suffix}").write_bytes(content)
    return read_local_task(path).content.texts
