"""Local tasks (docs/local-tasks.md) out of public collections, a folder each.

    python benchmarks/public_tasks.py COLLECTIONS OUT

COLLECTIONS holds, as far as they are there, the folders named below, with the files as their
authors publish them (large ones gzipped).

| task | type | collection |
|---|---|---|
| acord | Retrieval | eval/acord: contract clauses for a lawyer's query, graded by experts |
| cranfield, cacm | Retrieval | eval/cranfield, eval/cacm: abstracts; SMART's format |
| msmarco-mini | Retrieval | eval/beir-mini-msmarco: web passages |
| policyqa | Retrieval | eval/policyqa: the paragraphs of privacy policies that answer a question |
| medquad, statutes | Retrieval | pairs/medquad, corpora/dc-code: what `public_pairs.py` holds out |
| stsb | STS | eval/stsbenchmark, test |
| quora | PairClassification | pairs/quora: is it the same question? |
| snli | Reranking | pairs/snli: which sentence follows from another, which contradicts it? |
| banking77 | Classification | eval/banking77: 77 intents |
| opp115 | Classification | eval/opp115-privacy: segments with one label, by majority |
| banking77-clusters | Clustering | the same questions, test |
"""

import argparse
import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from public_pairs import is_held_out, lines, medquad, statutes

Row = Mapping[str, Any]
Files = dict[str, Iterable[Row]]
SMART_FIELD = re.compile(r"\.([A-Z])\s*$")
CRANFIELD = ("cran.all.1400", "cran.qry", "QRelsCorrectedforTRECeval")
CACM = ("cacm.all", "query.text", "cacm.qrels")


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return [json.loads(line) for line in lines(path) if line.strip()]


def retrieval(
    corpus: Iterable[tuple[str, str, str]],
    queries: Iterable[tuple[str, str]],
    judgements: Iterable[tuple[str, str, int]],
) -> Files:
    """The files of a retrieval task.

    Args:
        corpus: id, title and text; those without text are left out, and so are their judgements.
        queries: id and text.
        judgements: ids of query and document, and a grade.
    """
    documents = {
        name: {"_id": name, "title": title, "text": text}
        for name, title, text in corpus
        if text.strip()
    }
    grades = [
        {"query-id": query, "corpus-id": document, "score": grade}
        for query, document, grade in judgements
        if document in documents
    ]
    asked = {row["query-id"] for row in grades}
    chosen = [{"_id": name, "text": text} for name, text in queries if name in asked]
    return {"corpus.jsonl": documents.values(), "queries.jsonl": chosen, "qrels/test.tsv": grades}


def beir(folder: Path, qrels: str) -> Files:
    """A collection that is laid out as BEIR has it."""
    rows = [next(csv.reader([line.rstrip("\n")], delimiter="\t")) for line in lines(folder / qrels)]
    corpus, queries = (json_lines(folder / name) for name in ("corpus.jsonl.gz", "queries.jsonl"))
    return retrieval(
        ((row["_id"], row.get("title", ""), row["text"]) for row in corpus),
        ((row["_id"], row["text"]) for row in queries),
        [(query, document, int(grade)) for query, document, grade in rows if grade != "score"],
    )


def smart(path: Path) -> Iterator[dict[str, str]]:
    """The records of a file of SMART's: their fields by letter, in order."""
    record: dict[str, str] = {}
    letter = ""
    for line in lines(path):
        if line.startswith(".I "):
            if record:
                yield record
            record, letter = {"I": line[3:].strip()}, ""
        elif found := SMART_FIELD.match(line):
            letter = found[1]
        elif letter:
            record[letter] = f"{record.get(letter, '')}{line}"
    yield record


def smart_collection(folder: Path, documents: str, queries: str, qrels: str) -> Files:
    """A test collection; judgements count queries from 1, whatever their numbers."""
    rows = [line.split() for line in lines(folder / qrels) if line.strip()]
    asked = enumerate(smart(folder / queries), start=1)
    return retrieval(
        map(smart_document, smart(folder / documents)),
        ((str(number), one_line(row["W"])) for number, row in asked),
        [(query, str(int(document)), max(0, int(grade))) for query, _, document, grade in rows],
    )


def smart_document(record: dict[str, str]) -> tuple[str, str, str]:
    """Id, title and text; what the text begins with, or all there is, is no title."""
    title, text = (one_line(record.get(letter, "")) for letter in "TW")
    if text.startswith(title) or not text:
        return record["I"], "", text or title
    return record["I"], title, text


def one_line(text: str) -> str:
    """Words parted by one space."""
    return " ".join(text.split())


def policyqa(folder: Path) -> Files:
    """Each question once, with all paragraphs that answer it somewhere."""
    corpus: dict[str, str] = {}
    answers: dict[str, set[str]] = defaultdict(set)
    for policy in json.loads("".join(lines(folder / "dev.json.gz")))["data"]:
        for paragraph in policy["paragraphs"]:
            name = corpus.setdefault(paragraph["context"], f"p{len(corpus)}")
            for question in paragraph["qas"]:
                answers[question["question"]].add(name)
    queries = numbered("q", answers)
    return retrieval(
        ((name, "", text) for text, name in corpus.items()),
        ((name, question) for question, name in queries.items()),
        [(queries[one], name, 1) for one, names in answers.items() for name in sorted(names)],
    )


def numbered(prefix: str, texts: Iterable[str]) -> dict[str, str]:
    """An id for each text, once."""
    return {text: f"{prefix}{number}" for number, text in enumerate(dict.fromkeys(texts))}


def held_out(pairs: Iterator[tuple[str, str, str]]) -> Files:
    """Queries and what belongs to them, of groups that `public_pairs.py` trains on nothing of."""
    kept = [
        (query, text)
        for group, query, text in pairs
        if is_held_out(group) and query.strip() and text.strip()
    ]
    queries = numbered("q", (query for query, _ in kept))
    documents = numbered("d", (text for _, text in kept))
    return retrieval(
        ((name, "", text) for text, name in documents.items()),
        ((name, text) for text, name in queries.items()),
        [(queries[query], documents[text], 1) for query, text in dict.fromkeys(kept)],
    )


def stsb(folder: Path) -> Files:
    """genre, file, year, id, score, and two sentences; further cells are notes."""
    cells = (line.rstrip("\n").split("\t") for line in lines(folder / "sts-test.csv"))
    rows = [{"sentence1": row[5], "sentence2": row[6], "score": float(row[4])} for row in cells]
    return {"test.jsonl": rows}


def quora_pairs(folder: Path) -> Files:
    """label, two questions and an id."""
    cells = (line.rstrip("\n").split("\t") for line in lines(folder / "pairs.tsv"))
    rows = [{"sentence1": row[1], "sentence2": row[2], "label": int(row[0])} for row in cells]
    return {"test.jsonl": rows}


def snli(folder: Path) -> Files:
    """A premise's hypotheses: those that follow are relevant, those that contradict it are not."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in json_lines(folder / "dev.jsonl.gz"):
        if row["label"] in ("entailment", "contradiction"):
            found[row["premise"]][row["hypothesis"]] = int(row["label"] == "entailment")
    found = {premise: grades for premise, grades in found.items() if set(grades.values()) == {0, 1}}
    names = numbered("d", (text for one in found.values() for text in one))
    queries = numbered("q", found)
    files = retrieval(
        ((name, "", text) for text, name in names.items()),
        ((name, text) for text, name in queries.items()),
        [
            (queries[one], names[text], grade)
            for one, grades in found.items()
            for text, grade in grades.items()
        ],
    )
    candidates = [
        {"query-id": queries[one], "corpus-ids": [names[text] for text in grades]}
        for one, grades in found.items()
    ]
    return {**files, "candidates.jsonl": candidates}


def table(path: Path) -> list[list[str]]:
    """The rows of a CSV file."""
    return list(csv.reader(path.open(encoding="utf-8", newline="")))


def banking77(folder: Path) -> Files:
    """text, category."""
    files: Files = {}
    for split in ("train", "test"):
        _, *rows = table(folder / f"{split}.csv")
        files[f"{split}.jsonl"] = [{"text": text, "label": label} for text, label in rows]
    return files


def opp115(folder: Path) -> Files:
    """A row for each text and label, without a header; texts with several labels are left out."""
    files: Files = {}
    seen: set[str] = set()  # of the other split
    for split in ("train", "test"):
        rows = table(folder / f"Majority_{split}_dataset.csv")
        labels = dict.fromkeys((text.strip(), label) for text, label in rows)
        times = Counter(text for text, _ in labels)
        files[f"{split}.jsonl"] = [
            {"text": text, "label": label}
            for text, label in labels
            if times[text] == 1 and text not in seen
        ]
        seen = set(times)
    return files


# Name, type, folder and reader of each.
TASKS: tuple[tuple[str, str, str, Callable[[Path], Files]], ...] = (
    ("acord", "Retrieval", "eval/acord", lambda at: beir(at, "qrels/test.tsv.gz")),
    ("cranfield", "Retrieval", "eval/cranfield", lambda at: smart_collection(at, *CRANFIELD)),
    ("cacm", "Retrieval", "eval/cacm", lambda at: smart_collection(at, *CACM)),
    ("msmarco-mini", "Retrieval", "eval/beir-mini-msmarco", lambda at: beir(at, "qrels/test.tsv")),
    ("policyqa", "Retrieval", "eval/policyqa", policyqa),
    ("medquad", "Retrieval", "pairs/medquad", lambda at: held_out(medquad(at / "qa.jsonl.gz"))),
    (
        "statutes", "Retrieval", "corpora/dc-code",
        lambda at: held_out(statutes(at / "docs.jsonl.gz")),
    ),
    ("stsb", "STS", "eval/stsbenchmark", stsb),
    ("quora", "PairClassification", "pairs/quora", quora_pairs),
    ("snli", "Reranking", "pairs/snli", snli),
    ("banking77", "Classification", "eval/banking77", banking77),
    ("opp115", "Classification", "eval/opp115-privacy", opp115),
    (
        "banking77-clusters", "Clustering", "eval/banking77",
        lambda at: {"test.jsonl": banking77(at)["test.jsonl"]},
    ),
)  # fmt: skip


def write(folder: Path, kind: str, files: Files) -> None:
    """A task's folder."""
    for name, rows in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [dict(row) for row in rows]
        with path.open("w", encoding="utf-8") as file:
            if path.suffix == ".tsv":
                rows = csv.writer(file, delimiter="\t", lineterminator="\n")
                rows.writerows([kept[0].keys(), *(row.values() for row in kept)])
            else:
                file.writelines(json.dumps(row) + "\n" for row in kept)
        print(f"{path}: {len(kept):,}")
    (folder / "task.json").write_text(json.dumps({"name": folder.name, "type": kind}) + "\n")


def main() -> None:
    """Write what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    for name, kind, place, read in TASKS:
        folder = options.collections / place
        if folder.is_dir():
            write(options.out / name, kind, read(folder))
        else:
            print(f"{name}: {folder} is not there")


if __name__ == "__main__":
    main()
