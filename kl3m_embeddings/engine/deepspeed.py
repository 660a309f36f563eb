"""Many devices, through DeepSpeed: ZeRO stages 0 to 3.

1. The loss of a rank is its share of the step's: sums over the global number of targets. DeepSpeed
   averages gradients over ranks, so each share is multiplied by their number first.
2. `backward` only accumulates; `step` reduces what is left to reduce, clips and steps.
3. Weights and optimizer state are gathered from the fp32 masters, one parameter at a time, into the
   names and shapes of one device (`state_files.py`). A checkpoint therefore fits every stage, every
   number of devices, and train_single.py; DeepSpeed's own checkpoints, which are pickles, are not
   written.

ZeRO: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054.
"""

import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.engine.deepspeed_settings import deepspeed_settings, zero_stage
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.engine.single import (
    DTYPES,
    FLOAT16_LOSS_SCALE,
    clipped_step,
    dropout_of,
)
from kl3m_embeddings.engine.state_files import flatten_optimizer_state, restore_optimizer_state
from kl3m_embeddings.engine.zero_state import (
    FlatState,
    SplitState,
    ZeroState,
    read_loss_scale,
    read_optimizer_state,
    state_keys,
    write_loss_scale,
    write_optimizer_state,
)
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.optim.build import set_lr
from kl3m_embeddings.tasks.base import Outputs
from kl3m_embeddings.tasks.objective import Objective

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# One rank of a machine may build shards for hours while the others wait.
PATIENCE = timedelta(days=2)


def join_ranks() -> Ranks:
    """Meet the other processes that the launcher has started.

    Raises:
        ConfigError: no launcher has, or DeepSpeed is not installed.
    """
    missing = [name for name in LAUNCHER_VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: not set: start this with a launcher, as in `deepspeed "
            "train_deepspeed.py models/x/` or `torchrun --nproc-per-node 8 train_deepspeed.py "
            "models/x/`; on one device use train_single.py"
        )
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    deepspeed = import_deepspeed()
    # compiled at start on CPUs: gloo does the same without a compiler
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    deepspeed.init_distributed(backend, verbose=False)
    return Ranks(
        rank=dist.get_rank(),
        local_rank=local_rank,
        world_size=dist.get_world_size(),
        group=dist.new_group(backend="gloo", timeout=PATIENCE),
    )


def import_deepspeed() -> Any:  # noqa: ANN401 - it has no types
    """The package, with its log kept to warnings.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import deepspeed
    except ImportError as error:
        raise ConfigError(
            f"{error.name or 'deepspeed'}: not installed: `poetry install --extras deepspeed`"
        ) from error
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    return deepspeed


class DeepSpeedEngine:
    """Engine over all ranks."""

    def __init__(
        self,
        objective: Objective,
        optimizers: list[Optimizer],
        training: TrainingConfig,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        """Take over `objective`, whose parameters the `optimizers` hold; all ranks call it."""
        deepspeed = import_deepspeed()
        self.ranks = ranks
        self.objective = objective
        self.device = device
        self.optimizers = optimizers
        stage = zero_stage(training)
        settings = deepspeed_settings(
            training, batch_size=training.batch_size, world_size=ranks.world_size
        )
        firsts = {parameter: name for name, parameter in objective.named_parameters()}
        named = objective.named_parameters(remove_duplicate=False)
        self._first_names = {name: firsts[parameter] for name, parameter in named}
        weights = {name: one.detach().cpu().clone() for one, name in firsts.items()}
        self._frozen = {
            name: weights[name] for one, name in firsts.items() if not one.requires_grad
        }
        self._loss_scale = 1.0  # ZeRO's own scale is not seen from outside
        self._autocast_dtype = (
            torch.float32
        )  # ZeRO's weights are in the precision that is asked for
        if stage == 0:
            self._autocast_dtype = DTYPES[training.precision]
            if training.precision == "float16":
                self._loss_scale = FLOAT16_LOSS_SCALE
            optimizer: Optimizer = ClippedTogether(optimizers, self._loss_scale)
        else:
            optimizer = zero_optimizer(objective, optimizers)
        self._trained = {
            firsts[one]: (one, state_keys(group))
            for group in optimizer.param_groups
            for one in group["params"]
        }
        with ranks.together():
            try:
                self._engine, self._optimizer, _, _ = deepspeed.initialize(
                    model=objective, optimizer=optimizer, config=settings, dist_init_required=False
                )
            except ValueError as error:
                raise ConfigError(said_of_settings(error)) from error
        self._zero: ZeroState | None = None
        if stage > 0:
            self._zero = SplitState(self._optimizer) if stage == 3 else FlatState(self._optimizer)
            self._set_masters(weights)  # DeepSpeed made them of weights already in half precision

    def forward(self, batch: Batch, *, grad: bool = True) -> Outputs:
        """Run the objective; dropout is a function of the batch's keys, whenever it is called."""
        if self._zero is not None:
            self._zero.before_forward()
        self._engine.train(batch.trains)
        with torch.set_grad_enabled(grad), dropout_of(batch, self.device):
            outputs: Outputs = self._engine(batch.to(self.device), self._autocast_dtype)
        return outputs

    def backward(self, loss: Float[Tensor, ""], *, last: bool) -> None:
        """Add the gradients of `loss`."""
        scale = self.ranks.world_size * self._loss_scale
        self._engine.backward(loss * scale, scale_wrt_gas=False)

    def step(self, lr: float, max_norm: Float[Tensor, ""]) -> StepResult:
        """Clip, step, zero; skip all three where the norm is not finite."""
        if self._zero is None:
            self._optimizer.max_norm = max_norm
            set_lr(self.optimizers, lr)
            self._engine.step()
            result: StepResult = self._optimizer.result
            return result
        self._optimizer.clip_grad = float(max_norm)
        set_lr([self._optimizer], lr)
        self._engine.step()
        self._zero.forget_gradients()
        skipped = bool(self._optimizer.overflow)
        norm = float("inf") if skipped else float(self._engine.get_global_grad_norm())
        return StepResult(
            norm=torch.tensor(norm, device=self.device),
            skipped=torch.tensor(skipped, device=self.device),
        )

    def weights(self) -> Mapping[str, Tensor]:
        """The float32 weights by name, gathered; all ranks call it."""
        if self._zero is None:
            return self.objective.state_dict()
        gathered = dict(self._frozen)
        for name, (parameter, _) in self._trained.items():
            gathered[name] = self._zero.read(parameter, None).cpu()
        return {name: gathered[self._first_names[name]] for name in self._first_names}

    def optimizer_state(self) -> Mapping[str, Tensor]:
        """The optimizers' tensors by parameter and state name, gathered; all ranks call it."""
        if self._zero is None:
            return flatten_optimizer_state(self.objective, self.optimizers)
        state = read_optimizer_state(self._zero, self._optimizer.optimizer, self._trained)
        return state | read_loss_scale(self._optimizer)

    def load(self, heads: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor]) -> None:
        """Put back what `optimizer_state` gave, and the heads' weights; all ranks call it."""
        if self._zero is None:
            self.objective.load_state_dict(heads, strict=False)
            restore_optimizer_state(self.objective, self.optimizers, optimizer_state)
            return
        self._set_masters(heads)
        if optimizer_state:
            inner = self._optimizer.optimizer
            write_optimizer_state(self._zero, inner, self._trained, optimizer_state)
            write_loss_scale(self._optimizer, optimizer_state)

    def _set_masters(self, weights: Mapping[str, Tensor]) -> None:
        """Replace masters, and the weights that are computed with; all ranks call it."""
        assert self._zero is not None
        for name, (parameter, _) in self._trained.items():
            if name in weights:
                self._zero.write(parameter, None, weights[name])
        self._zero.publish()


class ClippedTogether(Optimizer):
    """Stage 0: several optimizers as one, which clips and skips as on one device.

    DeepSpeed has averaged the gradients when it calls `step`.
    """

    def __init__(self, optimizers: list[Optimizer], loss_scale: float) -> None:
        """Take the optimizers' own parameter groups; gradients come times `loss_scale`."""
        self.optimizers = optimizers
        self.loss_scale = loss_scale
        self.max_norm = torch.tensor(float("inf"))
        self.result: StepResult | None = None
        super().__init__([group for one in optimizers for group in one.param_groups], {})
        self.param_groups = [group for one in optimizers for group in one.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401
        """Clip to `max_norm`, and step, unless the norm is not finite."""
        self.result = clipped_step(self.optimizers, self.max_norm, self.loss_scale)


def zero_optimizer(objective: Objective, optimizers: list[Optimizer]) -> Optimizer:
    """The optimizer that ZeRO runs over its flat tensors.

    AdamW works on every number by itself. Muon needs whole matrices: DeepSpeed's own does that
    (the same formulas, its orthogonalisation in bf16, too).
    """
    if len(optimizers) == 1:
        return optimizers[0]
    from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

    muon, adamw = optimizers
    chosen = {id(one) for group in muon.param_groups for one in group["params"]}
    for parameter in objective.parameters():
        parameter.use_muon = id(parameter) in chosen  # type: ignore[attr-defined]
    groups = [
        {
            "params": group["params"],
            "use_muon": True,
            "lr": group["lr"],
            "momentum": group["momentum"],
            "weight_decay": group["weight_decay"],
            "ns_method": "standard",
            "lr_scale": group["lr_scale"],
        }
        for group in muon.param_groups
    ]
    keys = ("params", "lr", "betas", "eps", "weight_decay", "lr_scale")
    groups += [{**{key: g[key] for key in keys}, "use_muon": False} for g in adamw.param_groups]
    together: Optimizer = MuonWithAuxAdam(groups, adam_optimizer=torch.optim.AdamW)
    return together


def said_of_settings(error: ValueError) -> str:
    """What DeepSpeed's check of a section found, a line each."""
    errors = getattr(error, "errors", None)
    if errors is None:
        remedy = (
            ": choose another precision" if "not supported on your device" in str(error) else ""
        )
        return f"deepspeed: {str(error).rstrip('.')}{remedy}"
    section = "zero_optimization" if "Zero" in str(getattr(error, "title", "")) else ""
    lines = []
    for one in errors():
        key = ".".join(str(place) for place in ("deepspeed", section, *one["loc"]) if place)
        unknown = one["type"] == "extra_forbidden"
        lines.append(f"{key}: {'unknown to DeepSpeed: remove it' if unknown else one['msg']}")
    return "\n".join(lines)
