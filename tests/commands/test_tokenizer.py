import pytest
from typer.testing import CliRunner

from kl3m_embeddings.commands.tokenizer import app


@pytest.fixture
def run():
    """Runs `kl3m tokenizer ...` in this process; its errors are raised."""

    def run(*arguments):
        command = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, command, catch_exceptions=False).stdout

    return run


def test_train_and_show(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("the order of the court " * 50, encoding="utf-8")
    folder = tmp_path / "tokenizer"
    sources = (tmp_path / "a.txt", tmp_path / "b.txt")
    printed = run("train", *sources, "--vocab-size", 270, "--out", folder)
    assert "270 ids, fingerprint" in printed
    printed = run("show", folder, "--text", "the <|mask|>")
    assert "270 ids" in printed
    assert "mask         3  <|mask|>" in printed
    assert "12 bytes" in printed
    assert "the| |<|||m" in printed
