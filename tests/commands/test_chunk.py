import json

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from kl3m_embeddings.commands import shell
from kl3m_embeddings.commands.cli import app
from tests.encoder.folder.stock_folder import write_model_of_66_tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model_of_66_tokens(tmp_path_factory.mktemp("model"))


@pytest.fixture
def chunk(tmp_path, model, capsys):
    """A function: the exit code and what was printed of `kl3m chunk CORPUS OUT`."""

    def call(*arguments):
        given = ["chunk", *map(str, arguments), "--model", str(model)]
        found = []

        def run():
            result = CliRunner().invoke(app, given, catch_exceptions=True)
            if result.exception and not isinstance(result.exception, SystemExit):
                raise result.exception
            found.append(result)
            return result.exit_code

        code = shell.run(run, debug=False)
        return code, (found[0].stdout + found[0].stderr if found else capsys.readouterr().err)

    return call


def write(path, *texts):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


TEXT = "The court may review any order of the board. " * 6


def test_chunks_are_counted(tmp_path, chunk):
    write(tmp_path / "corpus" / "a.jsonl", TEXT, "Short.", "")
    code, said = chunk(tmp_path / "corpus", tmp_path / "out", "--tokens", 64, "--end", "sentence")
    assert code == 0
    table = parquet.read_table(tmp_path / "out" / "a.parquet")
    assert f"out: {table.num_rows} chunks of 2 documents in 1 file, " in said
    assert "made now: 1; skipped rows: 1 empty" in said
    code, said = chunk(tmp_path / "corpus", tmp_path / "out", "--tokens", 64, "--end", "sentence")
    assert code == 0
    assert "made now: 0" in said


def test_files_that_could_not_be_chunked_are_named_at_the_end(tmp_path, chunk):
    write(tmp_path / "corpus" / "a.jsonl", TEXT)
    (tmp_path / "corpus" / "bad.parquet").write_bytes(b"PAR1")
    code, said = chunk(tmp_path / "corpus", tmp_path / "out", "--tokens", 64)
    assert code == 65
    assert "bad.parquet: cannot be read" in said
    assert "1 of 2 files could not be chunked" in said
    assert (tmp_path / "out" / "a.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{corpus}"], 2, "CORPUS OUT"),
        (["{corpus}", "{out}"], 2, "--tokens 500: with 2 special tokens"),
        (["{corpus}", "{out}", "--tokens", "64", "--end", "sentences"], 2, "choose sentence"),
        (["{corpus}", "{out}", "--tokens", "64", "--overlap", "1"], 2, "--overlap 1.0: choose 0"),
        (["{corpus}/none", "{out}", "--tokens", "64"], 65, "none: "),
        (["{corpus}", "{out}", "--tokens", "64", "--text-column", "txt"], 2, "did you mean text?"),
        (["{corpus}", "{corpus}/a.jsonl", "--tokens", "64"], 73, "a.jsonl"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, chunk, arguments, code, says):
    write(tmp_path / "corpus" / "a.jsonl", TEXT)
    places = {"corpus": tmp_path / "corpus", "out": tmp_path / "out"}
    found, said = chunk(*(one.format(**places) for one in arguments))
    assert (found, says in said) == (code, True), said
    assert "Traceback" not in said


def test_a_corpus_without_documents_is_told(tmp_path, chunk):
    write(tmp_path / "corpus" / "a.jsonl", "", " ")
    code, said = chunk(tmp_path / "corpus", tmp_path / "out", "--tokens", 64)
    assert code == 65
    assert "no documents (skipped: 2 empty)" in said
