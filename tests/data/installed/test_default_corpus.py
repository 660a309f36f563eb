import json

import pytest

from kl3m_embeddings.data.installed import default_corpus
from kl3m_embeddings.data.installed.docstring_pairs import is_held_out
from kl3m_embeddings.errors import OutputError
from tests.data.installed.bodies import BODY


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
