"""What DeepSpeed is told, and what contradicts training.json."""

import json

import pytest

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.engine.deepspeed_settings import deepspeed_settings, zero_stage
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.run.sources import Devices
from tests.config.published import DEEPSPEED_BY_STAGE


def training(section, **fields):
    fields = {"tokenizer": "x", "optimizer": {"total_steps": 1}, "precision": "bfloat16"} | fields
    return TrainingConfig.model_validate(fields | {"deepspeed": section})


def settings_of(section, *, batch_size=4, world_size=2, **fields):
    return deepspeed_settings(
        training(section, **fields), batch_size=batch_size, world_size=world_size
    )


@pytest.mark.parametrize("stage", DEEPSPEED_BY_STAGE)
def test_the_published_sections_are_handed_on(stage):
    section = DEEPSPEED_BY_STAGE[stage]
    settings = settings_of(section)
    zero = {**section["zero_optimization"], "overlap_comm": stage > 1}
    assert settings["zero_optimization"] == zero
    assert settings["bf16"] == {"enabled": True, "check_grad_overflow": True}
    assert settings["train_batch_size"] == 8
    assert "optimizer_type" not in settings
    json.dumps(settings)


def test_accumulation_is_part_of_the_batch():
    settings = settings_of({"gradient_accumulation_steps": 3}, world_size=5)
    assert (settings["gradient_accumulation_steps"], settings["train_batch_size"]) == (3, 60)
    settings = settings_of({}, optimizer={"total_steps": 1, "gradient_accumulation_steps": 2})
    assert settings["train_batch_size"] == 16


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("stage", range(4))
def test_half_precision_is_deepspeeds_from_stage_1_on(stage, precision):
    settings = settings_of({"zero_optimization": {"stage": stage}}, precision=precision)
    halves = {"float32": set(), "float16": {"fp16"}, "bfloat16": {"bf16"}}[precision]
    assert settings.keys() & {"fp16", "bf16"} == (halves if stage else set())


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"zero_optimisation": {}}, "zero_optimisation: unknown key (did you mean zero_optim"),
        ({"optimizer": {"type": "Adam"}}, "optimizer: the optimizer is that of `optimizer`"),
        ({"scheduler": {}}, "scheduler: the schedule is that of `optimizer`"),
        ({"train_batch_size": 7}, "train_batch_size: 7 is not the 8 that batch_size"),
        ({"train_micro_batch_size_per_gpu": 3}, "3 is not the 4"),
        ({"fp16": {"enabled": True}}, "fp16: enabled, but precision is bfloat16"),
        ({"gradient_clipping": 3.0}, "gradient_clipping: 3.0 is not optimizer.max_grad_norm"),
        ({"zero_optimization": {"stage": 4}}, "stage: 4: choose 0, 1, 2 or 3"),
        ({"zero_optimization": 2}, "zero_optimization: must be an object"),
    ],
)
def test_contradictions_are_errors(section, says):
    with pytest.raises(ConfigError) as raised:
        settings_of(section)
    assert str(raised.value).startswith("deepspeed.")
    assert says in str(raised.value)


def test_compiling_is_refused():
    with pytest.raises(ConfigError, match=r"compile: train_deepspeed\.py does not compile"):
        settings_of({}, compile=True)


def test_all_errors_are_said_at_once():
    with pytest.raises(ConfigError) as raised:
        settings_of({"train_batch_size": 7, "sceduler": 1, "fp16": {"enabled": True}})
    assert len(str(raised.value).splitlines()) == 3


def test_what_says_the_same_is_no_contradiction():
    section = {
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_clipping": 1.0,
        "fp16": {"enabled": False},
    }
    assert settings_of(section)["train_batch_size"] == 8
    assert zero_stage(training(section)) == 0


def test_a_micro_batch_keeps_its_size_on_another_number_of_devices():
    assert Devices(number=2, first_number=2).share_of("batch_size", 6) == 6
    assert Devices(number=1, first_number=2).share_of("batch_size", 6) == 12
    assert Devices(number=4, first_number=2).share_of("batch_size", 6) == 3
    with pytest.raises(ConfigError, match="batch_size: the run began with micro-batches of 6"):
        Devices(number=4, first_number=1).share_of("batch_size", 6)


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_a_precision_that_the_device_decides_contradicts_no_key_yet(half):
    section = {"zero_optimization": {"stage": 2}, half: {"enabled": True}}
    assert settings_of(section, precision="auto")["train_batch_size"] == 8
