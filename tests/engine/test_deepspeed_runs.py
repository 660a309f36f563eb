"""Whole runs of train_deepspeed.py on two ranks of this machine: resume, change ranks, export."""

import json
import re
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from kl3m_embeddings.commands.train import main
from tests.engine.ranks import launch
from tests.engine.test_conformance import NO_DROPOUT
from tests.train.test_resume import assert_same_run, log_rows

MIX = {
    "mlm": 0.3,
    "nsp": 0.2,
    "pairs": {"probability": 0.3, "num_negatives": 1, "chunk_tokens": 60},
    "simcse": 0.2,
}
SECONDS_TO_END = 60


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
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", range(4))
def test_killed_on_one_rank_and_resumed_is_never_interrupted(folder, stage):
    whole, parts = folder("whole", stage), folder("parts", stage)
    trained(whole)
    generator = np.random.default_rng(stage)
    step, rank = int(generator.integers(5, 12)), int(generator.integers(2))
    started = time.monotonic()
    fault = {"KL3M_FAULT": f"after_step:{step}@{rank}"}
    result = launch(parts, "--quiet", environment=fault)
    assert result.returncode != 0
    assert time.monotonic() - started < SECONDS_TO_END
    assert len(errors_of(result)) <= 1
    assert (parts / "latest").resolve().name == f"checkpoint-{(step - 1) // 4 * 4}"
    trained(parts)
    assert_same_run(whole, parts)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", range(4))
def test_on_one_rank_and_on_two_again_the_samples_are_the_same(folder, stage):
    whole, parts = folder("whole", stage), folder("parts", stage)
    trained(whole)
    trained(parts, "--stop-after", 4)
    trained(parts, "--stop-after", 4, num_ranks=1)
    trained(parts)
    for log in ("log.jsonl", "eval.jsonl"):
        assert len(log_rows(parts / log)) == len(log_rows(whole / log))
    for row, wanted in zip(
        log_rows(parts / "log.jsonl"), log_rows(whole / "log.jsonl"), strict=True
    ):
        for key in ("task", "num_samples", "num_tokens", "samples_by_dataset", "lr"):
            assert row[key] == wanted[key], (row["step"], key)
    assert objects(parts) == objects(whole)


def objects(folder):
    import gzip

    with gzip.open(folder / "objects.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [{name: sorted(ids) for name, ids in row["objects"].items()} for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
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
@pytest.mark.parametrize("stage", [0, 2])
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
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fields", "arguments", "num_ranks", "says"),
    [
        ({"deepspeed": {"train_batch_size": 7}}, (), 2, "deepspeed.train_batch_size: 7 is not"),
        ({"deepspeed": {"zero_optimisation": {}}}, (), 2, "did you mean zero_optimization?"),
        (
            {"deepspeed": {"zero_optimization": {"stage": 2, "overlap_com": True}}},
            (),
            2,
            "deepspeed.zero_optimization.overlap_com: unknown to DeepSpeed",
        ),
        ({"deepspeed": {"fp16": {"enabled": True}}}, (), 2, "deepspeed.fp16: enabled, but"),
        ({"deepspeed": {"scheduler": {}}}, (), 2, "deepspeed.scheduler: the schedule is"),
        ({}, ("--set", "optimizer.peak_rl=1"), 2, "did you mean peak_lr?"),
    ],
)
def test_what_is_wrong_is_said_once(folder, fields, arguments, num_ranks, says):
    result = trained(folder(**fields), *arguments, num_ranks=num_ranks, code=2)
    errors = errors_of(result)
    assert len(errors) == 1
    assert says in errors[0]
    assert len(re.findall(r"exitcode  : 2", result.stderr)) >= 1
    assert "Traceback (most recent call last)" not in result.stderr.split("E0")[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_batch_that_the_ranks_cannot_share(folder):
    path = folder(batch_size=3)
    trained(path, "--stop-after", 2, num_ranks=1)
    result = trained(path, code=2)
    assert errors_of(result)[0].startswith(
        "error: batch_size: the run began with micro-batches of 3"
    )


def test_without_a_launcher(folder, capsys):
    from kl3m_embeddings.commands.train_many import main as main_many

    assert main_many([str(folder())]) == 2
    assert "start this with a launcher" in capsys.readouterr().err
