"""The road from a corpus to a task, on a few files; and that each step ends the others."""

import json

import pytest

from kl3m_embeddings.commands import describe, quickstart, quickstart_results, train
from kl3m_embeddings.data.installed import default_corpus
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.local_tasks.folder import read_local_task

BODY = "Explains what it does, at length. " * 8


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    """Packages enough that one of them is held out."""
    for number in range(40):
        folder = tmp_path / "site" / f"package{number}"
        folder.mkdir(parents=True)
        (folder / "m.py").write_text(f'"""Return the {number}th thing.\n\n{BODY}{number}"""\n')
    monkeypatch.setattr(default_corpus, "installed_roots", lambda: [("", tmp_path / "site")])
    monkeypatch.setattr(quickstart, "VOCAB_SIZE", 280)


@pytest.fixture
def calls(monkeypatch):
    """What is trained and described, in order; each returns the code that is set here."""
    seen, codes = [], {}

    def ends(name):
        def main(arguments):
            seen.append((name, *arguments))
            return codes.get(len(seen), 0)

        return main

    monkeypatch.setattr(train, "main", ends("train"))
    monkeypatch.setattr(describe, "main", ends("describe"))
    monkeypatch.setattr(quickstart_results, "print_masked_tokens", lambda _: seen.append("table"))
    return seen, codes


def start(tmp_path):
    return quickstart.quickstart(
        folder=tmp_path / "a", embed_folder=tmp_path / "b", data=tmp_path / "data"
    )


def test_every_step_in_its_order(tmp_path, calls, capsys):
    seen, _ = calls
    assert start(tmp_path) == 0
    first, second, task = (str(tmp_path / one) for one in ("a", "b", "data/HeldOutPackages"))
    assert seen == [
        ("train", first),
        ("train", second),
        ("describe", first),
        "table",
        ("describe", second, "--task", task, "--baseline", "bm25", "--baseline", "random"),
    ]
    printed = capsys.readouterr().out
    assert [f"[{number}/6]" in printed for number in range(1, 7)] == [True] * 6
    assert load_tokenizer(tmp_path / "data" / "tokenizer").vocab_size == 280
    pairs = [
        json.loads(line)
        for line in (tmp_path / "data/pairs_heldout.jsonl").read_text().splitlines()
    ]
    content = read_local_task(tmp_path / "data" / "HeldOutPackages").content
    assert len(pairs) == len(content.judgements) > 0
    assert sorted(content.documents.values()) == sorted(("", one["positive"][0]) for one in pairs)


def test_what_is_there_is_not_made_again(tmp_path, calls, capsys):
    start(tmp_path)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    capsys.readouterr()
    assert start(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == made
    assert capsys.readouterr().out.count("there already") == 2


@pytest.mark.parametrize(("number", "steps_done"), [(1, 1), (2, 2), (3, 3), (5, 5)])
def test_the_first_step_that_fails_ends_it_with_its_code(tmp_path, calls, number, steps_done):
    seen, codes = calls
    codes[number] = 130
    assert start(tmp_path) == 130
    assert len(seen) == steps_done
