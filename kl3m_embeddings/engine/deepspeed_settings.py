"""From training.json to DeepSpeed's own settings; what the two say twice must agree.

DeepSpeed is handed what the `deepspeed` section says, and besides:

1. the batch, the accumulation and the precision of training.json;
2. `managed_gradient_accumulation: false`, since a step may have several backward passes
   (GradCache);
3. torch's optimizers wherever they run, so that offloading needs no compiler;
4. `overlap_comm: false` below ZeRO stage 2, which does not allow it together with 2;
5. `reduce_scatter: false` for Muon in ZeRO stage 3, which refuses the two together.

Schedule, clipping threshold and accumulation stay with training.json: a key of DeepSpeed's for them
is an error, unless it says the same. In stage 0 the weights stay fp32 under autocast, as on one
device; from stage 1 on `bf16` and `fp16` are DeepSpeed's, with fp32 masters.
"""

from collections.abc import Mapping
from typing import Any

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.errors import ConfigError, did_you_mean

PRECISIONS = {"bfloat16": "bf16", "float16": "fp16"}
OWNED = {
    "optimizer": "the optimizer is that of `optimizer`: remove it",
    "scheduler": "the schedule is that of `optimizer`: remove it",
    "managed_gradient_accumulation": "accumulation is the trainer's: remove it",
}
KNOWN = {
    *OWNED, "activation_checkpointing", "aio", "amp", "autotuning", "bf16", "bfloat16",
    "checkpoint", "comms_logger", "communication_data_type", "compile", "compression_training",
    "csv_monitor", "curriculum_learning", "data_efficiency", "data_types", "dataloader_drop_last",
    "disable_allgather", "dump_state", "elasticity", "flops_profiler", "fp16",
    "gradient_accumulation_steps", "gradient_allreduce_op", "gradient_clipping",
    "gradient_predivide_factor", "hybrid_engine", "memory_breakdown", "optimizer_type", "pipeline",
    "prescale_gradients", "seq_parallel_communication_data_type", "sparse_attention",
    "sparse_gradients", "steps_per_print", "tensor_parallel", "tensorboard", "timers",
    "torch_autocast", "train_batch_size", "train_micro_batch_size_per_gpu",
    "use_node_local_storage", "wall_clock_breakdown", "wandb", "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer", "zero_optimization",
}  # fmt: skip


def zero_stage(training: TrainingConfig) -> int:
    """The ZeRO stage of the `deepspeed` section; 0 where it names none.

    Raises:
        ConfigError: there is no such stage.
    """
    zero = (training.deepspeed or {}).get("zero_optimization") or {}
    if not isinstance(zero, dict):
        raise ConfigError("deepspeed.zero_optimization: must be an object")
    stage = zero.get("stage", 0)
    if stage not in (0, 1, 2, 3) or isinstance(stage, bool):
        raise ConfigError(f"deepspeed.zero_optimization.stage: {stage!r}: choose 0, 1, 2 or 3")
    return int(stage)


def deepspeed_settings(
    training: TrainingConfig, *, batch_size: int, world_size: int
) -> dict[str, Any]:
    """What DeepSpeed is initialised with.

    Args:
        training: training.json.
        batch_size: samples of a micro-batch on each device.
        world_size: number of devices.

    Raises:
        ConfigError: naming each key that is unknown or contradicts training.json.
    """
    if training.compile:
        raise ConfigError("compile: train_deepspeed.py does not compile: set it to false")
    section = dict(training.deepspeed or {})
    stage = zero_stage(training)
    accumulation = training.gradient_accumulation_steps
    batches = {
        "train_micro_batch_size_per_gpu": batch_size,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": batch_size * accumulation * world_size,
    }
    problems = [*_unknown(section), *_contradictions(training, section, batches)]
    if problems:
        raise ConfigError("\n".join(f"deepspeed.{problem}" for problem in problems))
    for key in ("optimizer_type", "bfloat16", *PRECISIONS.values()):
        section.pop(key, None)
    settings: dict[str, Any] = {
        "steps_per_print": 2**31,
        **section,
        **batches,
        # torch's fused AdamW, on the CPU, too, where it is as fast as DeepSpeed's own
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "managed_gradient_accumulation": False,
    }
    if stage == 0:  # the optimizer clips (`ClippedTogether`)
        settings.pop("zero_optimization", None)
        return {**settings, "gradient_clipping": 0.0}
    given_zero = section["zero_optimization"]
    assert isinstance(given_zero, dict)
    zero: dict[str, Any] = dict(given_zero)
    if stage < 2:
        zero["overlap_comm"] = False
    if stage == 3 and training.optimizer.name == "muon":
        zero["reduce_scatter"] = False
    settings["zero_optimization"] = zero
    # a threshold above 0 switches clipping on; each step sets its own
    settings["gradient_clipping"] = training.optimizer.max_grad_norm or 1.0
    if half := PRECISIONS.get(training.precision):
        given = (training.deepspeed or {}).get(half)
        own = {"check_grad_overflow": True} if half == "bf16" else {}
        settings[half] = {**own, **(given if isinstance(given, dict) else {}), "enabled": True}
    return settings


def _unknown(section: Mapping[str, Any]) -> list[str]:
    problems = [f"{key}: {why}" for key, why in OWNED.items() if key in section]
    for key in section:
        if key not in KNOWN:
            problems.append(f"{key}: unknown key{did_you_mean(key, KNOWN)}")
    return problems


def _contradictions(
    training: TrainingConfig, section: Mapping[str, Any], batches: Mapping[str, int]
) -> list[str]:
    """Keys that say something else than training.json does."""
    problems = [
        f"{key}: {section[key]} is not the {number} that batch_size, accumulation and devices "
        "give: remove it"
        for key, number in batches.items()
        if key in section and section[key] not in (number, "auto")
    ]
    threshold = training.optimizer.max_grad_norm
    if section.get("gradient_clipping", threshold) != threshold:
        problems.append(
            f"gradient_clipping: {section['gradient_clipping']} is not optimizer.max_grad_norm "
            f"({threshold}): remove it"
        )
    for precision, key in PRECISIONS.items():
        given = section.get(key)
        enabled = given.get("enabled", True) if isinstance(given, Mapping) else given
        if enabled and training.precision not in ("auto", precision):
            problems.append(
                f"{key}: enabled, but precision is {training.precision}: set precision to "
                f"{precision}, or remove it"
            )
    return problems
