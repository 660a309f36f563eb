"""`tests/` mirrors the package: each module's test is found by its name, and none needs another.

What is held here, too, is how large a folder, a file and a function may grow.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "kl3m_embeddings"

# Tests of a whole path through several modules, each in the folder of the topmost of them.
SEVERAL = {
    "test_mirror.py": "this file",
    "test_poetry_lock.py": "the lock file goes with pyproject.toml",
    "commands/test_lost_places.py": "real processes without a terminal, a folder, a home, memory",
    "engine/test_conformance.py": "both engines, every ZeRO stage",
    "engine/test_deepspeed_names.py": "private names of DeepSpeed's, whichever module uses them",
    "local_tasks/test_column_traps.py": "each trap of a column, whichever way its file comes in",
    "local_tasks/test_traps.py": "each trap of a file of text, whichever way it comes in",
    "losses/test_every_loss.py": "what holds for each loss of the table",
    "run/test_similarity.py": "one similarity through training, measuring and export",
    "train/test_bad_runs.py": "full disks, damaged files, two trainers, signals, diverging losses",
    "train/test_encoders.py": "every kind of encoder trains, resumes and exports",
    "train/test_kills.py": "killed at any instant and resumed = never interrupted",
}
# Modules that are tried as parts of others only.
WITHOUT = {
    "encoder/kernels/triton_kernels.py": "started by triton_attention, whose test has every kernel",
}
MAX_SEVERAL = 12
MAX_MODULES, MAX_LINES, MAX_FUNCTION_LINES = 20, 300, 60
AT_THE_ROOT = {"__init__.py", "errors.py", "messages.py"}


def below(root, pattern="*.py"):
    """The files of this pattern, as paths below the folder."""
    return sorted(path.relative_to(root) for path in root.rglob(pattern))


MODULES = [path for path in below(PACKAGE) if path.name != "__init__.py"]
TEST_FILES = below(TESTS, "test_*.py")


def left(paths, table):
    """Those that are not in the table."""
    return [path.as_posix() for path in paths if path.as_posix() not in table]


def test_every_module_has_a_test_of_its_name():
    missing = [path for path in MODULES if path.with_name(f"test_{path.name}") not in TEST_FILES]
    assert left(missing, WITHOUT) == []


def test_every_test_file_is_that_of_a_module_or_of_several_named_above():
    of_modules = {path.with_name(f"test_{path.name}") for path in MODULES}
    assert left([path for path in TEST_FILES if path not in of_modules], SEVERAL) == []


def test_the_tables_are_short_and_name_what_there_is():
    assert len(SEVERAL) <= MAX_SEVERAL
    assert SEVERAL.keys() <= {path.as_posix() for path in TEST_FILES}
    assert WITHOUT.keys() <= {path.as_posix() for path in MODULES}
    for name in WITHOUT:
        assert Path(name).with_name(f"test_{Path(name).name}") not in TEST_FILES, name


def test_the_table_of_faults_names_tests_that_there_are():
    table = (TESTS.parent / "docs" / "robustness.md").read_text(encoding="utf-8")
    missing, path = [], ""
    for cell in re.findall(r"`([\w/.]*::[\w:]+)`", table):
        path, name = cell.split("::", 1)[0] or path, cell.rsplit("::", 1)[1]
        if f"def {name}(" not in (TESTS / path).read_text(encoding="utf-8"):
            missing.append(cell)
    assert missing == []
    assert len(re.findall("::test_", table)) > 50


def imported(path):
    """The dotted names that a file imports, wherever in it; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{one.name}" for one in node.names)


def test_no_test_imports_from_another_or_from_a_conftest():
    """What they share lies in modules whose names say what is in them."""
    not_shared = {path.stem for path in TEST_FILES} | {"conftest"}
    wrong = {
        f"{path}: {name}"
        for path in below(TESTS)
        for name in imported(TESTS / path)
        if name.startswith(("tests.", ".")) and not_shared & set(name.split("."))
    }
    assert wrong == set()


def test_no_folder_has_more_modules_than_one_takes_in():
    counts = Counter(path.parent.as_posix() for path in MODULES)
    assert {folder: number for folder, number in counts.items() if number > MAX_MODULES} == {}
    assert {path.name for path in PACKAGE.glob("*.py")} == AT_THE_ROOT


@pytest.mark.parametrize("root", [PACKAGE, TESTS], ids=["package", "tests"])
def test_no_file_is_longer_than_one_reads(root):
    lengths = {
        path.as_posix(): len((root / path).read_text(encoding="utf-8").splitlines())
        for path in below(root)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_function_is_longer_than_a_screen():
    functions = [
        (f"{path} {node.name}", node.end_lineno - node.lineno + 1)
        for path in below(PACKAGE)
        for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {name: length for name, length in functions if length > MAX_FUNCTION_LINES}
    assert long == {}
