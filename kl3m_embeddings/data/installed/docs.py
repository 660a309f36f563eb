"""The default corpus: the prose that comes with an installed Python.

Three datasets of text that every machine with this project has, without any download:

- docstrings of modules, classes and functions, read by `ast` and never by importing;
- licence texts;
- READMEs and the descriptions in packages' METADATA.

Ids are paths below site-packages (or below `stdlib/`), with versions removed. Test suites are left
out: their docstrings name cases rather than explain. Output is sorted by id; of equal texts the
first stays.
"""

import ast
import email
import multiprocessing
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

DOCSTRINGS, LICENCES, READMES = "docstrings", "licences", "readmes"
LICENCE_NAME = re.compile(
    r"(licen[cs]e|copying|notice|copyright)(?!.*\.(py|pyi|pyc|so|json)$)", re.I
)
README_NAME = re.compile(r"readme(\.(md|rst|txt))?$", re.I)
DIST_INFO = re.compile(r"(?<![^/])([^/]+?)-[^/]+\.dist-info(?=/)")
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages"}

FILES_PER_TASK = 64


class InstalledFile(NamedTuple):
    """A file to read, and which dataset it belongs to."""

    id: str
    path: str
    dataset: str


class Text(NamedTuple):
    """A document of a dataset."""

    id: str
    text: str


@dataclass(frozen=True)
class InstalledDocs:
    """What was found.

    Attributes:
        texts: by dataset, in order of id.
        skipped: reason to count: files that could not be read, texts that came before.
    """

    texts: Mapping[str, Sequence[Text]]
    skipped: Counter[str]


def installed_roots() -> list[tuple[str, Path]]:
    """Where this interpreter's packages and its standard library lie, with their ids' prefixes."""
    paths = sysconfig.get_paths()
    packages = {Path(paths[key]).resolve() for key in ("purelib", "platlib")}
    libraries = {Path(paths[key]).resolve() for key in ("stdlib", "platstdlib")}
    roots = [("", path) for path in sorted(packages)]
    return roots + [("stdlib/", path) for path in sorted(libraries - packages)]


def extract_installed_docs(
    roots: Sequence[tuple[str, Path]], num_processes: int | None = None
) -> InstalledDocs:
    """Read every document below the roots.

    Args:
        roots: pairs of the prefix of ids and the folder.
        num_processes: None: one for each core.
    """
    files = sorted(set(find_files(roots)))
    tasks = [files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)]
    if num_processes == 1 or len(tasks) <= 1:
        return _collected(map(read_files, tasks))
    # spawned, since the fork of a process with threads (the tokenizer's) may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes or os.cpu_count(), mp_context=context) as pool:
        return _collected(pool.map(read_files, tasks))


def find_files(roots: Iterable[tuple[str, Path]]) -> Iterator[InstalledFile]:
    """The files below the roots that hold documents."""
    for prefix, root in roots:
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(root).as_posix()
                if dataset := _dataset_of(name):
                    file_id = prefix + DIST_INFO.sub(r"\1.dist-info", relative)
                    yield InstalledFile(file_id, str(path), dataset)


def _dataset_of(name: str) -> str | None:
    """The dataset of a file of this name, if any."""
    if name.endswith(".py"):
        return DOCSTRINGS
    if LICENCE_NAME.match(name):
        return LICENCES
    return READMES if name == "METADATA" or README_NAME.match(name) else None


def read_files(files: Sequence[InstalledFile]) -> tuple[list[tuple[str, Text]], Counter[str]]:
    """The texts in some files, each with its dataset, and counts of what could not be read."""
    texts: list[tuple[str, Text]] = []
    skipped: Counter[str] = Counter()
    for file in files:
        try:
            content = Path(file.path).read_bytes()
            if file.dataset == DOCSTRINGS:
                found = docstrings_of(content, file.id)
            else:
                text = content.decode()
                text = _description_of(text) if file.path.endswith("METADATA") else text
                found = [Text(file.id, text)]
        except (SyntaxError, RecursionError, MemoryError):
            skipped["syntax errors"] += 1
        except (OSError, ValueError):  # UnicodeDecodeError, and NUL in source code
            skipped["unreadable files"] += 1
        else:
            clean = [text for text in found if _is_clean(text.text)]
            skipped["empty or unclean texts"] += len(found) - len(clean)
            texts += [(file.dataset, text) for text in clean]
    return texts, skipped


def docstrings_of(source: bytes, file_id: str) -> list[Text]:
    """The docstrings in a file's source code: `file.py`, `file.py::Class.method`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        module = ast.parse(source)
    texts: list[Text] = []
    seen: Counter[str] = Counter()
    for name, node in _definitions(module, ""):
        docstring = ast.get_docstring(node)
        if docstring is not None:
            seen[name] += 1  # overloads, and properties' setters, share a name
            suffix = f"#{seen[name]}" if seen[name] > 1 else ""
            texts.append(Text(f"{file_id}::{name}{suffix}" if name else file_id, docstring))
    return texts


Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(node: ast.AST, name: str) -> Iterator[tuple[str, Definition]]:
    """The module, and every class and function below it, with its qualified name."""
    if isinstance(node, Definition):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _definitions(child, f"{name}.{child.name}" if name else child.name)
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _definitions(child, name)


def _description_of(metadata: str) -> str:
    """The summary and the description in a package's METADATA."""
    message = email.message_from_string(metadata)
    description = message.get_payload() or message.get("Description", "")
    return f"{message.get('Summary', '')}\n\n{description}"


def _is_clean(text: str) -> bool:
    """Whether a text says something, and can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a docstring with "\ud800" in it
        return False
    return bool(text.strip()) and "\0" not in text


def _collected(
    results: Iterable[tuple[list[tuple[str, Text]], Counter[str]]],
) -> InstalledDocs:
    """Sort the texts by id and leave the first of equal ones."""
    texts: dict[str, list[Text]] = {DOCSTRINGS: [], LICENCES: [], READMES: []}
    skipped: Counter[str] = Counter()
    for found, counts in results:
        skipped += counts
        for dataset, text in found:
            texts[dataset].append(Text(text.id, text.text.strip()))
    for dataset, many in texts.items():
        first = {text.text: text for text in sorted(many, reverse=True)}
        skipped[f"duplicate {dataset}"] = len(many) - len(first)
        texts[dataset] = sorted(first.values())
    return InstalledDocs(texts, skipped)
