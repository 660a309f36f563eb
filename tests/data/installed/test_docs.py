import sys

from kl3m_embeddings.data.installed.docs import (
    docstrings_of,
    extract_installed_docs,
    installed_roots,
)

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
