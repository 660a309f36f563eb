"""Whole runs of train_deepspeed.py on two ranks of this machine: resume, change ranks, export."""

import gzip
import json
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from kl3m_embeddings.commands.train import main
from tests.config.published import DEEPSPEED_BY_STAGE
from tests.engine.ranks import launch
from tests.engine.train_folders import __file__ as TRAIN_FOLDERS
from tests.engine.train_with_a_bad_step import BAD_STEP
from tests.engine.train_with_a_bad_step import __file__ as TRAIN_WITH_A_BAD_STEP
from tests.tiny_model import NO_DROPOUT
from tests.train.runs import assert_same_run, log_rows

# not imported here: it would be in every child that later tests fork
pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed")

MIX = {
    "mlm": 0.3,
    "nsp": 0.2,
    "pairs": {"probability": 0.3, "num_negatives": 1, "chunk_tokens": 60},
    "simcse": 0.2,
}
SECONDS_TO_END = 300


@pytest.fixture
def folder(make_model_folder):
    """A function: a model folder for this stage."""

    def make(name="model", stage=1, **fields):
        section = {"zero_optimization": {"stage": stage}} | fields.pop("deepspeed", {})
        return make_model_folder(name, **{"tasks": MIX, "deepspeed": section} | fields)

    return make


def trained(*arguments, code=0, **settings):
    result = launch(*arguments, "--quiet", **settings)
    # torchrun itself returns 1 for whatever a rank returned
    assert (result.returncode == 0) == (code == 0), result.stderr[-4000:]
    if code:
        assert f"exitcode  : {code}" in result.stderr, result.stderr[-4000:]
    return result


def errors_of(result):
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", range(4))
def test_killed_and_resumed_is_never_interrupted_and_other_ranks_see_the_same_samples(
    folder, stage
):
    whole, parts = folder("whole", stage), folder("parts", stage)
    trained(whole)
    generator = np.random.default_rng(stage)
    step, rank = int(generator.integers(5, 12)), int(generator.integers(2))
    started = time.monotonic()
    result = launch(parts, "--quiet", environment={"KL3M_FAULT": f"after_step:{step}@{rank}"})
    assert result.returncode != 0
    assert time.monotonic() - started < SECONDS_TO_END
    assert len(errors_of(result)) <= 1
    assert (parts / "latest").resolve().name == f"checkpoint-{(step - 1) // 4 * 4}"
    trained(parts)
    assert_same_run(whole, parts)

    moved = folder("moved", stage)
    trained(moved, "--stop-after", 4)
    trained(moved, "--stop-after", 4, num_ranks=1)
    trained(moved)
    rows, wanted_rows = (log_rows(one / "log.jsonl") for one in (moved, whole))
    for row, wanted in zip(rows, wanted_rows, strict=True):
        for key in ("task", "num_samples", "num_tokens", "samples_by_dataset", "lr"):
            assert row[key] == wanted[key], (row["step"], key)
    assert objects(moved) == objects(whole)


def objects(folder):
    """The documents of each step, whatever rank read them."""
    with gzip.open(folder / "objects.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [{name: sorted(ids) for name, ids in row["objects"].items()} for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("stage", "precision"), [(1, "float32"), (3, "bfloat16")])
def test_one_device_goes_on_with_it_and_it_with_one_device(make_model_folder, stage, precision):
    """Steps 1-4 on two ranks, 5-8 on one device, 9-12 on two ranks: as on one device throughout."""
    fields = {"tasks": {"mlm": 0.5, "nsp": 0.5}, "precision": precision, "config": NO_DROPOUT}
    section = {"zero_optimization": {"stage": stage}}
    mixed = make_model_folder("mixed", deepspeed=section, **fields)
    alone = make_model_folder("alone", batch_size=8, **fields)
    assert main([str(alone), "--quiet"]) == 0
    trained(mixed, "--stop-after", 4)
    assert main([str(mixed), "--quiet", "--stop-after", "4"]) == 0
    trained(mixed)
    rtol = 1e-4 if precision == "float32" else 2e-2
    for row, wanted in zip(
        log_rows(mixed / "log.jsonl"), log_rows(alone / "log.jsonl"), strict=True
    ):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=rtol)
    model = load_file(mixed / "latest" / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in model.values())
    if precision == "bfloat16":  # masters, not what the module computes with
        assert any((tensor != tensor.bfloat16().float()).any() for tensor in model.values())
    vectors = SentenceTransformer(str(mixed / "latest"), device="cpu").encode(["court order"])
    assert np.isfinite(vectors).all()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", range(4))
def test_muon(make_model_folder, stage):
    """Orthogonalised in bf16 in two implementations: close, not equal."""
    optimizer = {"name": "muon", "total_steps": 4, "warmup_steps": 1, "peak_lr": 1e-3}
    fields = {"optimizer": optimizer | {"max_grad_norm": 1e9}, "config": NO_DROPOUT}
    section = {"zero_optimization": {"stage": stage}}
    two = make_model_folder("two", deepspeed=section, **fields)
    one = make_model_folder("one", batch_size=8, **fields)
    trained(two, "--stop-after", 2)
    trained(two)
    assert main([str(one), "--quiet"]) == 0
    for row, wanted in zip(log_rows(two / "log.jsonl"), log_rows(one / "log.jsonl"), strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_that_is_not_finite_is_skipped_on_every_rank(folder):
    folders = [
        folder(f"{precision}-{stage}", stage, precision=precision, tasks={"mlm": 1.0})
        for precision, stages in (("float32", range(4)), ("bfloat16", (1, 2, 3)), ("float16", [0]))
        for stage in stages
    ]
    result = launch(*folders, script=TRAIN_WITH_A_BAD_STEP)
    assert result.returncode == 0, result.stderr[-4000:]
    for path in folders:
        rows = log_rows(path / "log.jsonl")
        assert [row["step"] for row in rows if row["skipped"]] == [BAD_STEP], path.name
        assert rows[BAD_STEP - 1]["loss"] is None
        assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", range(4))
def test_a_diverging_run_leaves_good_checkpoints_alone(folder, stage):
    path = folder(stage=stage, tasks={"mlm": 1.0}, steps_per_save=1, max_skipped_steps=2)
    result = launch(path, script=TRAIN_WITH_A_BAD_STEP, environment={"LAST_BAD_STEP": "9"})
    assert result.returncode == 1  # torchrun's
    (error,) = errors_of(result)
    assert f"2 steps in a row up to step {BAD_STEP + 1}" in error
    assert "checkpoint-1 is the last good one" in error
    assert (path / "latest").resolve().name == "checkpoint-1"
    assert (path / "diverged-checkpoint-2-1").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_wrong_is_said_once(folder):
    result = trained(folder(stage=2, deepspeed={}, data={}), code=2)
    assert errors_of(result) == [
        "error: data: no dataset: name one in training.json or with --data NAME=PATH"
    ]
    section = {"zero_optimization": {"stage": 2, "overlap_com": True}}
    result = trained(folder("other", deepspeed=section), code=2)
    assert errors_of(result) == [
        "error: deepspeed.zero_optimization.overlap_com: unknown to DeepSpeed: remove it"
    ]
    assert "kl3m_embeddings/" not in result.stderr  # no trace of ours


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_published_settings_train_without_a_compiler(make_model_folder, tmp_path):
    """Their deepspeed sections as they are: ZeRO 1; 2 and 3 with offloading to the CPU."""
    no_compiler = {"CXX": "/no/compiler", "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")}
    folders = [
        make_model_folder(
            f"published-{stage}",
            deepspeed=section,
            precision="bfloat16",
            tasks={"mlm": 0.75, "nsp": 0.1, "nlp": 0.1, "mhm": 0.05},
            matroyshka_probability=0.5,
            matroyshka_min_log2=2,
        )
        for stage, section in DEEPSPEED_BY_STAGE.items()
    ]
    result = launch(*folders, script=TRAIN_FOLDERS, environment=no_compiler)
    assert result.returncode == 0, result.stderr[-4000:]
    for path in folders:
        losses = [row["loss"] for row in log_rows(path / "log.jsonl")]
        assert len(losses) == 12
        assert all(np.isfinite(losses))
        model = SentenceTransformer(str(path / "latest"), device="cpu")
        assert model.encode(["court order"]).shape == (1, 32)


def test_without_a_launcher(folder, capsys):
    from kl3m_embeddings.commands.train_deepspeed import main as main_many

    assert main_many([str(folder())]) == 2
    assert "start this with a launcher" in capsys.readouterr().err
