"""A task in a folder of plain files: task.json, and texts with what is known about them.

| type | files |
|---|---|
| Retrieval | `corpus.*` (_id, title, text), `queries.*` (_id, text), `qrels/<split>.tsv` |
| Reranking | the same, and `candidates.jsonl` (query-id, corpus-ids): what is put in order |
| STS | `<split>.*` (sentence1, sentence2, score) |
| PairClassification | `<split>.*` (sentence1, sentence2, label: 0 or 1) |
| Classification | `train.*`, `<split>.*` (text, label) |
| Clustering | `<split>.*` (text, label) |

Files are JSONL, CSV or TSV, also compressed; Retrieval's are BEIR's
(https://arxiv.org/abs/2104.08663). A faulty row is an error: a score over what happens to be
readable would be another task's.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kl3m_embeddings.config.read import parse_section
from kl3m_embeddings.data.readers.records import EMPTY, ReadOptions, fault_of
from kl3m_embeddings.data.readers.rows import TEXT_ROW_READERS, bare_suffix, number_of
from kl3m_embeddings.errors import ConfigError, DataError
from kl3m_embeddings.files.hashes import sha256_of_file
from kl3m_embeddings.files.path_kind import why_not
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.local_tasks.qrels import read_qrels
from kl3m_embeddings.local_tasks.settings import LocalTaskSettings

OPTIONS = ReadOptions()
BINARY_SCORES = ("ap", "ap_weighted")


@dataclass(frozen=True, kw_only=True)
class RankingTexts:
    """Queries, the documents that they are asked among, and how relevant these are."""

    documents: dict[str, tuple[str, str]]
    """Title and text by id."""
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    """Grades by query and document; above 0 is relevant. Only of queries with a relevant one."""
    candidates: dict[str, list[str]] | None = None
    """Of reranking: the documents that are put in order, by query."""


@dataclass(frozen=True, kw_only=True)
class PairTexts:
    """Pairs of texts, and a number for each: how alike they are, or 1 for alike, else 0."""

    first: list[str]
    second: list[str]
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class LabelledTexts:
    """Texts and the class of each; `train` is what a classifier learns from."""

    texts: list[str]
    labels: list[str]
    train: "LabelledTexts | None" = None


@dataclass(frozen=True, kw_only=True)
class LocalTask:
    """A task as it was read; see `read_local_task`."""

    folder: Path
    settings: LocalTaskSettings
    content: RankingTexts | PairTexts | LabelledTexts
    sha256: str
    """Of task.json and all files read: a score belongs to it."""


@dataclass
class _Folder:
    """The files of a task, hashed as they are read."""

    path: Path
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def find(self, stem: str, suffixes: Iterable[str] = tuple(TEXT_ROW_READERS)) -> Path:
        """The one file of that name, whatever its type."""
        folder, _, name = stem.rpartition("/")
        found = [
            file
            for file in sorted((self.path / folder).glob(f"{name}.*"))
            if file.name.partition(".")[0] == name and bare_suffix(file) in suffixes
        ]
        if len(found) != 1:
            types = ", ".join(suffixes)
            problem = f"no {name} file ({types}; also .gz, .zst)" if not found else "several files"
            names = ": " + ", ".join(file.name for file in found) if found else ""
            raise DataError(f"{self.path / folder}: {problem} for {stem}{names}: one is needed")
        self.digest.update(f"\0{found[0].name}\0".encode(errors="surrogateescape"))
        self.digest.update(bytes.fromhex(sha256_of_file(found[0])))
        return found[0]

    def rows(self, stem: str, keys: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Place and values of each row; every key is there."""
        file = self.find(stem)
        num_rows = 0
        for line, values in TEXT_ROW_READERS[bare_suffix(file)](str(file), OPTIONS, 0):
            place = f"{file}:{line}"
            if values == EMPTY:
                continue  # a blank line is no row
            if isinstance(values, str):
                raise DataError(f"{place}: {values}: mend the row or leave it out")
            if missing := [key for key in keys if values.get(key) is None]:
                raise DataError(
                    f"{place}: no {missing[0]!r} among {', '.join(map(repr, values)) or 'no keys'}"
                )
            num_rows += 1
            yield place, values
        if not num_rows:
            raise DataError(f"{file}: is empty: there is nothing to score")


def read_local_task(folder: Path) -> LocalTask:
    """Read a task and check that it can be scored.

    Raises:
        ConfigError: task.json is missing, or wrong.
        DataError: a file is missing or faulty, an id is unknown, or there is one class only.
    """
    path = folder / "task.json"
    if why := why_not(folder, "folder") or why_not(path, "file"):
        place = path if folder.is_dir() else folder
        raise ConfigError(f"{place}: {why}: give a folder with a task.json (docs/local-tasks.md)")
    settings = parse_section(LocalTaskSettings, read_json_object(path), path, "docs/local-tasks.md")
    files = _Folder(folder)
    files.digest.update(path.read_bytes())
    content = _read_content(files, settings)
    return LocalTask(
        folder=folder, settings=settings, content=content, sha256=files.digest.hexdigest()
    )


def _read_content(
    files: _Folder, settings: LocalTaskSettings
) -> RankingTexts | PairTexts | LabelledTexts:
    split = settings.split
    if settings.type in ("Retrieval", "Reranking"):
        return _read_ranking(files, settings)
    if settings.type == "STS":
        return _read_pairs(files, split, "score")
    if settings.type == "PairClassification":
        return _read_pairs(files, split, "label", binary=True)
    train = _read_labelled(files, "train") if settings.type == "Classification" else None
    read = _read_labelled(files, split, train)
    if train and settings.score in BINARY_SCORES and (num := len(set(train.labels))) > 2:
        raise DataError(
            f"{files.path}: main_score: {settings.score!r} is of two labels, and there are {num}: "
            "choose another"
        )
    return read


def _read_ranking(files: _Folder, settings: LocalTaskSettings) -> RankingTexts:
    documents = {
        name: (_title(place, values), _text(place, values, "text", may_be_empty=True))
        for name, place, values in _by_id(files, "corpus", ("_id", "text"))
    }
    queries = {
        name: _text(place, values, "text")
        for name, place, values in _by_id(files, "queries", ("_id", "text"))
    }
    path = files.find(f"qrels/{settings.split}", (".tsv", ".txt", ".csv"))
    judgements = read_qrels(path, queries.keys(), documents.keys())
    candidates = None
    if settings.type == "Reranking":
        candidates = _read_candidates(files, judgements.keys(), documents)
    if all(
        grades.get(name, 0) == max(grades.values())
        for query, grades in judgements.items()
        for name in (documents if candidates is None else candidates[query])
    ):
        raise DataError(f"{path}: every document is right for every query: nothing to tell apart")
    return RankingTexts(
        documents=documents, queries=queries, judgements=judgements, candidates=candidates
    )


def _read_candidates(
    files: _Folder, queries: Iterable[str], documents: Mapping[str, object]
) -> dict[str, list[str]]:
    candidates: dict[str, list[str]] = {}
    for place, values in files.rows("candidates", ("query-id", "corpus-ids")):
        ids = values["corpus-ids"]
        if (
            not isinstance(ids, list)
            or not ids
            or not all(isinstance(one, str | int) for one in ids)
        ):
            raise DataError(f"{place}: corpus-ids: must be a list of ids")
        if unknown := [one for one in ids if str(one) not in documents]:
            raise DataError(f"{place}: corpus-ids: {unknown[0]!r} is not in the corpus")
        query = _plain(place, values, "query-id")
        if query in candidates:
            raise DataError(f"{place}: query-id {query!r} is there twice: keep one of them")
        candidates[query] = [str(one) for one in ids]
    if missing := sorted(set(queries) - candidates.keys()):
        raise DataError(f"{files.path}: no candidates for query {missing[0]!r}: add a row")
    return candidates


def _by_id(
    files: _Folder, stem: str, keys: tuple[str, ...]
) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    """Id, place and values of each row; no id is there twice."""
    seen: set[str] = set()
    for place, values in files.rows(stem, keys):
        name = _plain(place, values, "_id")
        if name in seen:
            raise DataError(f"{place}: _id {name!r} is there twice: keep one of them")
        seen.add(name)
        yield name, place, values


def _read_pairs(files: _Folder, split: str, key: str, *, binary: bool = False) -> PairTexts:
    pairs = PairTexts(first=[], second=[], values=[])
    for place, values in files.rows(split, ("sentence1", "sentence2", key)):
        pairs.first.append(_text(place, values, "sentence1"))
        pairs.second.append(_text(place, values, "sentence2"))
        pairs.values.append(_number(place, values[key], key))
        if binary and pairs.values[-1] not in (0, 1):
            raise DataError(f"{place}: {key}: {values[key]!r} is neither 0 nor 1")
    if len(set(pairs.values)) < 2:
        raise DataError(
            f"{files.path}: every {key} of {split} is {pairs.values[0]:g}: nothing to tell apart"
        )
    return pairs


def _read_labelled(files: _Folder, split: str, train: LabelledTexts | None = None) -> LabelledTexts:
    read = LabelledTexts(texts=[], labels=[], train=train)
    for place, values in files.rows(split, ("text", "label")):
        read.texts.append(_text(place, values, "text"))
        read.labels.append(_plain(place, values, "label"))
    counts = Counter(read.labels)
    if len(counts) < 2:
        raise DataError(
            f"{files.path}: every label of {split} is {read.labels[0]!r}: nothing to tell apart"
        )
    if train is not None and (unknown := sorted(counts.keys() - set(train.labels))):
        raise DataError(
            f"{files.path}: label {unknown[0]!r} of {split} is not in train: "
            "no classifier can learn it; add examples, or leave its rows out"
        )
    return read


def joined(title: str, text: str) -> str:
    """A document as mteb gives it to a model."""
    return f"{title} {text}".strip()


def _title(place: str, values: Mapping[str, object]) -> str:
    is_there = values.get("title") is not None
    return _text(place, values, "title", may_be_empty=True) if is_there else ""


def _plain(place: str, values: Mapping[str, object], key: str) -> str:
    """A text, number, true or false, as text: an id, or a label."""
    value = values[key]
    if not isinstance(value, str | int | float):
        raise DataError(f"{place}: {key}: must be a text or a number, not {value!r:.40}")
    return str(value)


def _text(place: str, values: Mapping[str, object], key: str, *, may_be_empty: bool = False) -> str:
    text = values[key]
    if not isinstance(text, str):
        raise DataError(f"{place}: {key}: must be a text")
    fault = fault_of(text, OPTIONS)
    if fault and not (may_be_empty and fault == EMPTY):
        raise DataError(f"{place}: {key}: {fault}: mend the row or leave it out")
    return text


def _number(place: str, value: object, key: str) -> float:
    number = number_of(value) if isinstance(value, str) else value
    if not isinstance(number, int | float) or not abs(number) < 1e30:
        raise DataError(f"{place}: {key}: {value!r:.40} is not a number")
    return float(number)
