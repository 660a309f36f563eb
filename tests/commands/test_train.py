"""The command line of training: every error is one line, with its exit code."""

import json
import subprocess
import sys

import pytest

from kl3m_embeddings.commands.train import main
from tests.train.runs import log_rows

NOT_ON_A_BARE_IMAGE = ("pyarrow", "polars", "typer", "rich", "matplotlib", "datasets", "deepspeed")


def train(folder, *arguments):
    return main([str(folder), *map(str, arguments), "--quiet"])


def test_all_errors_of_training_json_at_once(make_model_folder, capsys):
    folder = make_model_folder(batch_size=-1, optimiser={}, seed="x")
    assert train(folder, "--set", "optimizer.peak_rl=1") == 2
    path = folder / "training.json"
    assert capsys.readouterr().err.splitlines() == [
        f"error: {path}: optimizer.peak_rl: unknown key (did you mean peak_lr?)",
        f'error: {path}: seed: Input should be a valid integer (it is "x")',
        f"error: {path}: batch_size: Input should be greater than 0 (it is -1)",
        f"error: {path}: optimiser: unknown key (did you mean optimizer?)",
    ]


def test_errors_of_config_json(make_model_folder, capsys):
    folder = make_model_folder(config={"hiden_size": 3, "num_attention_heads": 5})
    assert train(folder) == 2
    messages = capsys.readouterr().err
    assert "config.json: hiden_size: unknown key (did you mean hidden_size?)" in messages
    assert "num_attention_heads" in messages


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tokenizer", "nowhere"], "nowhere"),
        (["--set", "max_length=33"], "max_position_embeddings"),
        (["--set", "data={}"], "no dataset"),
        (["--data", "statutes"], "NAME=PATH"),
        (["--set", "seed"], "KEY=VALUE"),
        (["--set", "init_from=nowhere"], "nowhere"),
    ],
)
def test_errors_of_arguments(make_model_folder, capsys, arguments, says):
    folder = make_model_folder()
    assert train(folder, *arguments) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message
    assert not (folder / "log.jsonl").exists()


def test_tokenizer_larger_than_the_vocabulary(make_model_folder, capsys):
    assert train(make_model_folder(config={"vocab_size": 100})) == 2
    assert "vocab_size: 100 is smaller than the tokenizer's 300" in capsys.readouterr().err


def test_initial_weights_of_another_shape(make_model_folder, capsys):
    base = make_model_folder("base")
    assert train(base, "--stop-after", 1) == 0
    wide = make_model_folder("wide", config={"hidden_size": 64}, init_from=str(base))
    assert train(wide) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"not the architecture of init_from, {base}: hidden_size is 64, not 32; " in line


def test_initial_weights_are_those_of_the_newest_checkpoint(make_model_folder):
    base = make_model_folder("base")
    assert train(base) == 0
    continued = make_model_folder("continued", init_from=str(base))
    assert train(continued, "--stop-after", 1) == 0
    first, last = continued / "checkpoint-0", base / "checkpoint-12"
    names = ("model.safetensors", "tokenizer.json")
    assert all((first / name).read_bytes() == (last / name).read_bytes() for name in names)


@pytest.mark.parametrize("text", ["", "\n", '{"text": ""}\n', '{"text": "  "}\n{"text": ""}\n'])
def test_empty_corpus(make_model_folder, tmp_path, capsys, text):
    empty = tmp_path / "empty.jsonl"
    empty.write_text(text)
    assert train(make_model_folder(), "--data", f"empty={empty}") == 65
    assert "empty" in capsys.readouterr().err


def test_one_token_documents_train_with_finite_loss(make_model_folder, tmp_path):
    short = tmp_path / "short.jsonl"
    short.write_text("".join(json.dumps({"text": letter}) + "\n" for letter in "abcdefghij"))
    tasks = 'tasks={"mlm": 0.25, "nsp": 0.25, "nlp": 0.25, "mhm": 0.25}'
    folder = make_model_folder()
    assert train(folder, "--data", f"short={short}", "--set", tasks) == 0
    rows = log_rows(folder / "log.jsonl")
    assert all(row["loss"] is not None and not row["skipped"] for row in rows)
    assert {row["task"] for row in rows} > {"mlm"}
    assert all(row["num_fallback"] == 4 for row in rows if row["task"] != "mlm")


def test_config_errors_come_before_torch_is_imported(make_model_folder):
    folder = make_model_folder(sed=1)
    code = (
        "import sys; from kl3m_embeddings.commands.train import main; "
        f"code = main([{str(folder)!r}]); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert "did you mean seed?" in result.stderr


@pytest.mark.slow
def test_training_needs_only_what_a_bare_gpu_image_has():
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_ON_A_BARE_IMAGE})); "
        "import kl3m_embeddings.run.setup"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_packed_rows_are_nearly_full(make_model_folder, tmp_path, capsys):
    texts = tmp_path / "short.jsonl"
    texts.write_text("".join(f'{{"text": "court {n}"}}\n' for n in range(200)))
    data, tasks = {"short": {"path": str(texts)}}, {"mlm": {"probability": 1.0, "pack": True}}
    folder = make_model_folder("packed", tasks=tasks, data=data)
    plain = make_model_folder("plain", data=data)
    tokens = []
    for one in (folder, plain):
        assert train(one, "--stop-after", 4) == 0
        tokens.append(sum(row["num_tokens"] for row in log_rows(one / "log.jsonl")[:4]))
    assert tokens[0] > 2 * tokens[1]
    assert (folder / "eval_samples.jsonl").read_text() == (plain / "eval_samples.jsonl").read_text()
    biased = make_model_folder("biased", tasks=tasks, config={"position_biased_input": True})
    assert train(biased) == 2
    assert "config.json: tasks.mlm.pack needs a DeBERTa" in capsys.readouterr().err
