import pytest


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
