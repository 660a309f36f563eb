import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from kl3m_embeddings.commands.corpus import app
from kl3m_embeddings.errors import ConfigError, DataError


@pytest.fixture
def run():
    """Runs `kl3m corpus ...` in this process; its errors are raised."""

    def run(*arguments):
        command = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, command, catch_exceptions=False).stdout

    return run


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "x.jsonl"
    texts = ["The first order.", "", "The second order.", "The first order."]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts) + "{\n")
    return path


def test_build_show_and_verify(run, source, tiny_tokenizer_folder, tmp_path):
    build = ("build", f"tiny={source}", "--tokenizer", tiny_tokenizer_folder, "--out", tmp_path)
    printed = run(*build)
    assert "3 documents" in printed
    assert "skipped: 1 empty, 1 not JSON" in printed
    assert "exact duplicates: 1, kept" in printed
    assert "MB/s" in printed
    assert "nothing was done" in run(*build)
    assert "exact duplicates: 1, dropped" in run(*build, "--drop-duplicates", "--overwrite")

    printed = run("show", tmp_path / "tiny", "--tokenizer", tiny_tokenizer_folder)
    assert "2 documents" in printed
    assert "x.jsonl:3: The second order. ..." in printed
    assert "are as they were built" in run("verify", tmp_path / "tiny")
    (tmp_path / "tiny" / "ids.bin").write_bytes(b"x" * 18)
    with pytest.raises(DataError, match=r"ids\.bin"):
        run("verify", tmp_path / "tiny")


def test_one_name_joins_paths_and_several_names_give_several_sets(
    run, source, tiny_tokenizer_folder, tmp_path
):
    datasets = (f"a={source}", f"b={source}", f"a={source}")
    printed = run("build", *datasets, "--tokenizer", tiny_tokenizer_folder, "--out", tmp_path)
    assert f"{tmp_path / 'a'}: 6 documents" in printed
    assert f"{tmp_path / 'b'}: 3 documents" in printed


@pytest.mark.parametrize("dataset", ["x.jsonl", "=x.jsonl", "name="])
def test_a_dataset_is_name_and_path(run, tiny_tokenizer_folder, tmp_path, dataset):
    with pytest.raises(ConfigError, match="write NAME=PATH"):
        run("build", dataset, "--tokenizer", tiny_tokenizer_folder, "--out", tmp_path)


def test_another_tokenizer_gives_no_sample(run, source, tiny_tokenizer_folder, tmp_path):
    from kl3m_embeddings.data.tokenizer.training import train_tokenizer

    train_tokenizer([], 261, tmp_path / "other")
    run("build", f"tiny={source}", "--tokenizer", tiny_tokenizer_folder, "--out", tmp_path)
    printed = run("show", tmp_path / "tiny", "--tokenizer", tmp_path / "other")
    assert "is another tokenizer" in printed
    assert "order" not in printed


def test_installed_docs(run, tmp_path, monkeypatch):
    from kl3m_embeddings.data.installed import default_corpus

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.py").write_text('"""A module."""\n', encoding="utf-8")
    monkeypatch.setattr(default_corpus, "installed_roots", lambda: [("", tmp_path / "site")])
    printed = run("installed-docs", "--out", tmp_path / "out")
    assert f"{tmp_path / 'out' / 'docstrings.jsonl'}: 1 rows" in printed


def test_the_commands_start_without_heavy_imports():
    code = (
        "import sys, kl3m_embeddings.commands.corpus, kl3m_embeddings.commands.tokenizer; "
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'tokenizers', 'numpy') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_building_imports_neither_torch_nor_transformers():
    code = (
        "import sys, kl3m_embeddings.data.shards.build; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
