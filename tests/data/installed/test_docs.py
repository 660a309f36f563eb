import json
import sys

import pytest

from kl3m_embeddings.data.installed import default_corpus
from kl3m_embeddings.data.installed.docs import (
    Text,
    docstrings_of,
    extract_installed_docs,
    installed_roots,
)
from kl3m_embeddings.data.installed.docstring_pairs import (
    is_held_out,
    package_of,
    pair_of,
    split_pairs,
)
from kl3m_embeddings.errors import OutputError

SOURCE = b'''
"""The module."""

if True:
    class Shape:
        """A shape.

            Indented.
        Or not.
        """

        def area(self):
            """Its area."""
            def inner():
                "Nested."

        @property
        def name(self):
            """Its name."""

        @name.setter
        def name(self, value):
            """Set its name."""

try:
    import fast
except ImportError:
    async def fallback():
        """Slow."""

def silent():
    pass
'''


def test_docstrings_have_qualified_names_and_clean_text():
    assert docstrings_of(SOURCE, "p/m.py") == [
        ("p/m.py", "The module."),
        ("p/m.py::Shape", "A shape.\n\n    Indented.\nOr not."),
        ("p/m.py::Shape.area", "Its area."),
        ("p/m.py::Shape.area.inner", "Nested."),
        ("p/m.py::Shape.name", "Its name."),
        ("p/m.py::Shape.name#2", "Set its name."),
        ("p/m.py::fallback", "Slow."),
    ]


@pytest.fixture
def roots(tmp_path):
    """A site-packages folder and a standard library."""
    files = {
        "site/demo/__init__.py": b'raise SystemExit("imported")\n',
        "site/demo/a.py": b'"""First module."""\n',
        "site/demo/b.py": b'"""First module."""\n',
        "site/demo/latin.py": '# coding: latin-1\n"""Caf\xe9."""\n'.encode("latin-1"),
        "site/demo/escape.py": b'"""An invalid \\\\d escape \\d."""\n',
        "site/demo/surrogate.py": b'"""A lone \\ud800."""\n',
        "site/demo/nul.py": b'"""A\x00"""',
        "site/demo/broken.py": b"def (",
        "site/demo/python2.py": b'print "x"',
        "site/demo/tests/test_a.py": b'"""A test."""',
        "site/demo/README.rst": b"Read me.",
        "site/demo/licenses.py": b'"""Code about licences."""',
        "site/demo-1.0.dist-info/METADATA": b"Name: demo\nSummary: A demo.\n\n# Demo\n\nLong.\n",
        "site/demo-1.0.dist-info/licenses/LICENSE.txt": b"You may.",
        "site/demo-1.0.dist-info/licenses/sub/COPYING": b"\xff\xfe",
        "site/demo-1.0.dist-info/RECORD": b"not read",
        "lib/argparse.py": b'"""Parser."""\n',
        "lib/LICENSE.txt": b"Python's.",
        "lib/site-packages/other.py": b'"""Elsewhere."""\n',
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [("", tmp_path / "site"), ("stdlib/", tmp_path / "lib")]


def test_files_are_found_read_and_counted(roots):
    found = extract_installed_docs(roots, num_processes=1)
    assert found.texts == {
        "docstrings": [
            ("demo/a.py", "First module."),
            ("demo/escape.py", "An invalid \\d escape \\d."),
            ("demo/latin.py", "Café."),
            ("demo/licenses.py", "Code about licences."),
            ("stdlib/argparse.py", "Parser."),
        ],
        "licences": [
            ("demo.dist-info/licenses/LICENSE.txt", "You may."),
            ("stdlib/LICENSE.txt", "Python's."),
        ],
        "readmes": [
            ("demo.dist-info/METADATA", "A demo.\n\n# Demo\n\nLong."),
            ("demo/README.rst", "Read me."),
        ],
    }
    assert found.skipped == {
        "syntax errors": 3,
        "unreadable files": 1,
        "empty or unclean texts": 1,
        "duplicate docstrings": 1,
        "duplicate licences": 0,
        "duplicate readmes": 0,
    }


def test_the_number_of_processes_changes_nothing(roots, monkeypatch):
    monkeypatch.setattr("kl3m_embeddings.data.installed.docs.FILES_PER_TASK", 4)
    assert extract_installed_docs(roots, num_processes=2) == extract_installed_docs(
        roots, num_processes=1
    )


def test_this_interpreter_has_packages_and_a_library():
    roots = installed_roots()
    assert {prefix for prefix, _ in roots} == {"", "stdlib/"}
    assert any((root / "argparse.py").exists() for _, root in roots)
    assert all(str(root) in sys.path for prefix, root in roots if not prefix)


BODY = "Explains what it does, at length. " * 8


def test_a_pair_is_a_summary_and_the_rest():
    docstring = Text("p/m.py::f", f"Return the area\nof a shape.\n\n{BODY}")
    assert pair_of(docstring) == ("p/m.py::f", "Return the area of a shape.", BODY.strip())


@pytest.mark.parametrize(
    "text",
    [
        BODY,  # no summary
        "Return the area of a shape.\n\nShort.",
        f"Area.\n\n{BODY}",
        f"{BODY * 3}\n\n{BODY}",
    ],
)
def test_a_docstring_without_both_is_no_pair(text):
    assert pair_of(Text("p/m.py", text)) is None


@pytest.mark.parametrize(
    ("document_id", "package"),
    [
        ("rich/text.py::Text", "rich"),
        ("pip/_vendor/rich/text.py::Text", "rich"),
        ("setuptools/_vendor/jaraco/text/__init__.py", "jaraco"),
        ("sklearn/externals/_packaging/version.py", "packaging"),
        ("typing_extensions.py::f", "typing_extensions"),
        ("_pytest/config/vendor.py", "pytest"),
        ("stdlib/asyncio/tasks.py::vendor/x", "stdlib"),
        ("Typing-Extensions.dist-info/METADATA", "typing_extensions"),
        ("setuptools/_vendor/wheel.dist-info/LICENSE", "wheel"),
    ],
)
def test_packages_are_those_that_were_copied(document_id, package):
    assert package_of(document_id) == package


def test_pairs_are_split_by_package():
    names = [f"package{i}" for i in range(200)]
    texts = [
        Text(f"{prefix}{name}/m.py::f", f"Return the {i}th thing.\n\n{BODY}")
        for i, name in enumerate(names)
        for prefix in ("", "pip/_vendor/")
    ]
    train, held_out = split_pairs(texts)
    assert len(train) + len(held_out) == len(texts)
    assert 10 <= len(held_out) / 2 <= 40
    sides = [{package_of(pair.id) for pair in pairs} for pairs in (train, held_out)]
    assert not sides[0] & sides[1]
    assert sides[1] == {name for name in names if is_held_out(name)}


@pytest.fixture
def roots_of_this_machine(roots, monkeypatch):
    monkeypatch.setattr(default_corpus, "installed_roots", lambda: roots)
    module = roots[0][1] / "demo" / "pair.py"
    module.write_text(f'"""Return the area.\n\n{BODY}"""\n', encoding="utf-8")


def test_the_default_corpus_is_five_files(roots_of_this_machine, tmp_path):
    files, skipped = default_corpus.write_default_corpus(tmp_path / "out")
    assert [(file.path.name, file.num_rows) for file in files] == [
        ("docstrings.jsonl", 6),
        ("licences.jsonl", 2),
        ("readmes.jsonl", 2),
        ("pairs.jsonl", 1),
        ("pairs_heldout.jsonl", 0),
    ]
    assert {file.path for file in files} == set((tmp_path / "out").iterdir())
    pair = json.loads((tmp_path / "out" / "pairs.jsonl").read_text(encoding="utf-8"))
    assert pair == {"id": "demo/pair.py", "query": "Return the area.", "positive": [BODY.strip()]}
    assert skipped["syntax errors"] == 3


def test_held_out_packages_are_in_no_file_that_is_trained_on(
    roots, roots_of_this_machine, tmp_path
):
    name = next(name for name in (f"package{i}" for i in range(100)) if is_held_out(name))
    for path, content in {
        f"{name}/pair.py": f'"""Return another area.\n\n{BODY}"""\n',
        f"{name}/plain.py": '"""A module."""\n',
        f"{name}/README.md": "Read me, too.",
        f"demo/_vendor/{name}/copy.py": '"""A copy."""\n',
        f"{name}-1.0.dist-info/METADATA": "Name: x\nSummary: Another demo.\n\nLong.\n",
    }.items():
        file = roots[0][1] / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    files, skipped = default_corpus.write_default_corpus(tmp_path / "out")
    assert {file.path.name: file.num_rows for file in files} == {
        "docstrings.jsonl": 6,
        "licences.jsonl": 2,
        "readmes.jsonl": 2,
        "pairs.jsonl": 1,
        "pairs_heldout.jsonl": 1,
    }
    for file in files:
        assert (name in file.path.read_text()) == (file.path.name == "pairs_heldout.jsonl")
    assert skipped["documents of held-out packages"] == 5


def test_a_folder_that_cannot_be_written_is_one_line(roots_of_this_machine, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        default_corpus.write_default_corpus(tmp_path / "file" / "out")
