"""A task folder from a table: the columns of a CSV, TSV or JSONL become what `local_task` reads.

Rows without a text, and repeated ones, are left out and counted; the choice of rows, and of those
that classifiers learn from, is seeded.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kl3m_embeddings.config.read import parse_section
from kl3m_embeddings.data.counter_random import derive_key, permute
from kl3m_embeddings.data.readers.records import EMPTY, ReadOptions, counted, fault_of
from kl3m_embeddings.data.readers.rows import (
    LIST_IN_CELL,
    TEXT_ROW_READERS,
    bare_suffix,
    is_list_literal,
)
from kl3m_embeddings.errors import ConfigError, DataError, OutputError, did_you_mean
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.path_kind import why_not
from kl3m_embeddings.files.whole import utf8
from kl3m_embeddings.local_tasks.folder import LocalTask, read_local_task
from kl3m_embeddings.local_tasks.settings import LocalTaskSettings, LocalTaskType

# Of each type, the columns that a table must have; a retrieval table may have ids and titles.
COLUMNS: dict[LocalTaskType, tuple[str, ...]] = {
    "Retrieval": ("query", "document"),
    "Reranking": ("query", "positive", "negative"),
    "STS": ("sentence1", "sentence2", "score"),
    "PairClassification": ("sentence1", "sentence2", "label"),
    "Classification": ("text", "label"),
    "Clustering": ("text", "label"),
}
OPTIONAL: dict[LocalTaskType, tuple[str, ...]] = {"Retrieval": ("title",)}
# Columns whose cells may be lists, in JSONL.
SEVERAL = ("document", "positive", "negative")
REPEATED = "repeated"
NOT_LEARNT = "of a label without examples to learn from"

Row = dict[str, str | list[str]]


@dataclass(frozen=True, kw_only=True)
class MadeLocalTask:
    """A task as it was written, and the rows that are not in it, by reason."""

    task: LocalTask
    num_rows: int
    left_out: Counter[str]


def make_local_task(
    table: Path,
    out: Path,
    fields: Mapping[str, object],
    *,
    columns: Mapping[str, str],
    train_table: Path | None = None,
    max_rows: int | None = None,
    test_share: float = 0.5,
    seed: int = 0,
) -> MadeLocalTask:
    """Write a task folder, and read it back.

    Args:
        table: CSV, TSV or JSONL, also compressed.
        out: the folder; it must not be there, or be empty.
        fields: of task.json; `type` is one.
        columns: the table's column for each of COLUMNS that is called otherwise there.
        train_table: of a classification; without one the table is split.
        max_rows: keep so many rows of the table, chosen by `seed`.
        test_share: of a classification's rows, where the table is split.
        seed: of every choice.

    Raises:
        ConfigError: a column or a field is unknown.
        DataError: the table cannot be read, or makes no task.
        OutputError: there is something in `out`.
    """
    settings = parse_section(
        LocalTaskSettings, dict(fields), out / "task.json", "docs/local-tasks.md"
    )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: is not empty: give a new folder")
    left_out: Counter[str] = Counter()
    rows = read_rows(table, settings.type, columns, left_out)
    num_rows = len(rows)
    if max_rows is not None and max_rows < num_rows:
        chosen = np.sort(permute(np.arange(max_rows), num_rows, derive_key(seed, "rows")))
        rows = [rows[row] for row in chosen]
    train = read_rows(train_table, settings.type, columns, left_out) if train_table else None
    if settings.type == "Classification" and train is None:
        rows, train = split_rows(rows, test_share, seed, left_out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        unfinished = Path(scratch) / out.name
        unfinished.mkdir()
        write_local_task(unfinished, settings, rows, train)
        write_settings(unfinished, fields)
        try:
            task = read_local_task(unfinished)
        except DataError as error:  # it names a file that is not there when it is read
            raise DataError(f"{table}: {str(error).replace(str(unfinished), str(out))}") from error
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    return MadeLocalTask(task=replace(task, folder=out), num_rows=num_rows, left_out=left_out)


def write_local_task(
    folder: Path, settings: LocalTaskSettings, rows: Sequence[Row], train: Sequence[Row] | None
) -> None:
    """All files but task.json."""
    if settings.type == "Retrieval":
        write_retrieval(folder, settings, rows)
    elif settings.type == "Reranking":
        write_reranking(folder, settings, rows)
    else:
        write_jsonl(folder / f"{settings.split}.jsonl", rows)
        if train is not None:
            write_jsonl(folder / "train.jsonl", train)


def write_settings(folder: Path, fields: Mapping[str, object]) -> None:
    """task.json."""
    text = json.dumps(dict(fields), indent=2, ensure_ascii=False) + "\n"
    (folder / "task.json").write_bytes(utf8(text))


def read_rows(
    table: Path, kind: LocalTaskType, columns: Mapping[str, str], left_out: Counter[str]
) -> list[Row]:
    """The rows of a table, each once, under the names that a task has for its columns."""
    wanted, optional = COLUMNS[kind], OPTIONAL.get(kind, ())
    if unknown := [name for name in columns if name not in (*wanted, *optional)]:
        names = (*wanted, *optional)
        hint = did_you_mean(unknown[0], names, f"{kind} has {', '.join(names)}")
        raise ConfigError(f"--column {unknown[0]}=...: unknown{hint}")
    if why := why_not(table, "file"):
        raise DataError(f"{table}: {why}")
    reader = TEXT_ROW_READERS.get(bare_suffix(table))
    if reader is None:
        raise DataError(
            f"{table}: not a known type ({', '.join(TEXT_ROW_READERS)}; also .gz, .zst)"
        )
    rows: dict[str, Row] = {}
    for line, values in reader(str(table), ReadOptions(), 0):
        if isinstance(values, str):
            left_out[values] += 1
            continue
        row = row_of(values, f"{table}:{line}", kind, columns)
        key = json.dumps(row, sort_keys=True)
        fault = fault_in_row(row, wanted)
        if fault or key in rows:
            left_out[fault or REPEATED] += 1
        else:
            rows[key] = row
    if not rows:
        raise DataError(f"{table}: no usable row in it (left out: {counted(left_out)})")
    return list(rows.values())


def row_of(
    values: Mapping[str, object], place: str, kind: LocalTaskType, columns: Mapping[str, str]
) -> Row:
    """The cells that a task has, under its names; empty ones are left out."""
    row: Row = {}
    for name in (*COLUMNS[kind], *OPTIONAL.get(kind, ())):
        column = columns.get(name, name)
        if column not in values and name in COLUMNS[kind]:
            known = ", ".join(map(repr, values))
            raise ConfigError(
                f"{place}: no column {column!r} among {known}: name it with --column {name}=..."
            )
        if values.get(column) not in (None, ""):
            row[name] = cell(values[column], f"{place}: {column}", may_be_list=name in SEVERAL)
    return row


def cell(value: object, place: str, *, may_be_list: bool) -> str | list[str]:
    """A cell as text; or as texts, where a row may have several."""
    if isinstance(value, list) and may_be_list:
        return [str(cell(one, place, may_be_list=False)) for one in value]
    if isinstance(value, list | dict) or value is None:
        several = " or a list of texts" if may_be_list else ""
        raise DataError(f"{place}: must be a text{several}: write a row for each")
    return str(value)


def texts_of(value: str | list[str]) -> list[str]:
    """A cell's texts."""
    return [value] if isinstance(value, str) else value


def fault_in_row(row: Row, wanted: Sequence[str]) -> str | None:
    """What keeps a row from being used, if anything."""
    if any(is_list_literal(row.get(name)) for name in SEVERAL):
        return LIST_IN_CELL
    texts = [text for cell in row.values() for text in texts_of(cell)]
    missing = EMPTY if any(not row.get(name) for name in wanted) else None
    return next(filter(None, (fault_of(text, ReadOptions()) for text in texts)), missing)


def write_retrieval(out: Path, settings: LocalTaskSettings, rows: Sequence[Row]) -> None:
    """Every distinct document becomes part of the corpus; a query may have several."""
    documents: dict[tuple[str, str], str] = {}
    queries: dict[str, str] = {}
    judgements: dict[tuple[str, str], None] = {}
    for row in rows:
        query = queries.setdefault(str(row["query"]), f"q{len(queries)}")
        for text in texts_of(row["document"]):
            document = (str(row.get("title", "")), text)
            judgements[query, documents.setdefault(document, f"d{len(documents)}")] = None
    write_jsonl(
        out / "corpus.jsonl",
        (
            {"_id": name, **({"title": title} if title else {}), "text": text}
            for (title, text), name in documents.items()
        ),
    )
    write_ranking(out, settings, queries, [(*pair, 1) for pair in judgements])


def write_reranking(out: Path, settings: LocalTaskSettings, rows: Sequence[Row]) -> None:
    """Each query's positives and negatives are its candidates.

    Ids and candidates are in an order that says nothing of their grades: where a model has ties,
    mteb ranks the higher id first.
    """
    queries: dict[str, str] = {}
    grades: dict[tuple[str, str], int] = {}
    for row in rows:
        query = queries.setdefault(str(row["query"]), f"q{len(queries)}")
        for side, grade in (("negative", 0), ("positive", 1)):
            for text in texts_of(row[side]):
                grades[query, text] = max(grade, grades.get((query, text), 0))
    shuffled = sorted({text for _, text in grades}, key=shuffled_place)
    documents = {text: f"d{number}" for number, text in enumerate(shuffled)}
    judgements = [(query, documents[text], grade) for (query, text), grade in grades.items()]
    candidates: dict[str, list[str]] = {}
    for query, name, _ in sorted(judgements):
        candidates.setdefault(query, []).append(name)
    write_jsonl(
        out / "corpus.jsonl", ({"_id": name, "text": text} for text, name in documents.items())
    )
    write_jsonl(
        out / "candidates.jsonl",
        ({"query-id": query, "corpus-ids": ids} for query, ids in candidates.items()),
    )
    write_ranking(out, settings, queries, judgements)


def shuffled_place(text: str) -> bytes:
    """Sorts texts as if at random, always the same way."""
    return hashlib.sha256(text.encode()).digest()


def write_ranking(
    out: Path,
    settings: LocalTaskSettings,
    queries: Mapping[str, str],
    judgements: Iterable[tuple[str, str, int]],
) -> None:
    """Queries and judgements."""
    write_jsonl(
        out / "queries.jsonl", ({"_id": name, "text": text} for text, name in queries.items())
    )
    lines = [f"{query}\t{document}\t{grade}\n" for query, document, grade in judgements]
    (out / "qrels").mkdir()
    path = out / "qrels" / f"{settings.split}.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")


def split_rows(
    rows: Sequence[Row], test_share: float, seed: int, left_out: Counter[str]
) -> tuple[list[Row], list[Row]]:
    """Rows to score, and rows to learn from; what nothing can be learnt of is not scored."""
    order = permute(np.arange(len(rows)), len(rows), derive_key(seed, "train"))
    num_test = round(len(rows) * test_share)
    shuffled = [rows[row] for row in order]
    train = shuffled[num_test:]
    known = {row["label"] for row in train}
    test = [row for row in shuffled[:num_test] if row["label"] in known]
    if unknown := num_test - len(test):
        left_out[NOT_LEARNT] += unknown
    return test, train


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """One object a line."""
    with path.open("wb") as file:
        file.writelines(map(json_line, rows))
