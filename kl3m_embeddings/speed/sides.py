"""The sides of the comparison: one training step each, in its three phases.

All sides do the same work: masked-language modelling of random tokens, 15% of them targets,
dropout as the configuration says, softmax over the whole vocabulary, autocast over float32 weights,
clipping to norm 1, fused AdamW.

    ours          the engine and the objective that training runs
    transformers  its DebertaV2ForMaskedLM, trained as its Trainer does
    plain         ours, of an encoder of the same sizes with BERT's attention
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig, PretrainedConfig

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.data.batch import Batch, BatchInfo
from kl3m_embeddings.encoder.allocator import keep_freed_memory
from kl3m_embeddings.encoder.flops import training_flops
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import DTYPES, SingleEngine
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.tasks.objective import Objective

MAX_NORM = 1.0
PEAK_LR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step is made of."""

    batch_size: int = 64
    length: int = 128
    mask_rate: float = 0.15
    precision: str = "bfloat16"
    compile: bool = False
    num_layers: int | None = None
    """None: as the configuration says."""
    vocab_size: int | None = None
    """None: as the configuration says."""

    @property
    def num_tokens(self) -> int:
        """Of a step."""
        return self.batch_size * self.length

    @property
    def num_targets(self) -> int:
        """Of a step."""
        return round(self.mask_rate * self.num_tokens)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step's phases, called one after the other, and its floating-point operations."""

    forward: Callable[[], Tensor]
    backward: Callable[[Tensor], None]
    optimise: Callable[[], None]
    flops: float
    network: nn.Module
    """What is trained, with transformers' names."""


def changed(config: PretrainedConfig, work: Work) -> PretrainedConfig:
    """The architecture at the work's size."""
    changes = {"num_hidden_layers": work.num_layers, "vocab_size": work.vocab_size}
    values = {key: value for key, value in changes.items() if value is not None}
    longest = max(work.length, config.max_position_embeddings)
    return type(config)(**{**config.to_dict(), "max_position_embeddings": longest, **values})


def random_batch(config: PretrainedConfig, work: Work) -> Batch:
    """Full rows of random tokens, of which some are targets."""
    generator = torch.Generator().manual_seed(0)
    shape = work.batch_size, work.length
    input_ids = torch.randint(1, config.vocab_size, shape, generator=generator)
    positions = torch.randperm(work.num_tokens, generator=generator)[: work.num_targets]
    positions = positions.sort().values
    batch = Batch(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        target_positions=positions,
        target_labels=input_ids.flatten()[positions],
        info=BatchInfo(task="mlm", samples_by_dataset={}, tokens_by_dataset={}, documents={}),
    )
    return batch.with_dropout(0, 0, work.batch_size)


def ours(config: PretrainedConfig, work: Work, device: torch.device) -> Step:
    """The engine's step."""
    keep_freed_memory()
    encoder = build_encoder(config, seed=0)
    objective = Objective(encoder, pair_head=False).to(device)
    optimizers = build_optimizers(objective.named_parameters(), OptimizerConfig(total_steps=10_000))
    engine = SingleEngine(
        objective, optimizers, device=device, precision=work.precision, compiled=work.compile
    )
    batch = random_batch(config, work)
    max_norm = torch.tensor(MAX_NORM, device=device)

    def forward() -> Tensor:
        return engine.forward(batch).loss_sums["mlm"] / work.num_targets

    def optimise() -> None:
        engine.step(PEAK_LR, max_norm)

    return Step(
        forward=forward,
        backward=lambda loss: engine.backward(loss, last=True),
        optimise=optimise,
        flops=training_flops(config, work.num_tokens, work.length, work.num_targets),
        network=encoder.network,
    )


def transformers(config: PretrainedConfig, work: Work, device: torch.device) -> Step:
    """The step of transformers' Trainer."""
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, fused=True)
    call = torch.compile(model) if work.compile else model
    batch = random_batch(config, work).to(device)
    assert batch.target_positions is not None and batch.target_labels is not None
    labels = torch.full_like(batch.input_ids, -100).flatten()
    labels = labels.scatter(0, batch.target_positions, batch.target_labels)
    labels = labels.view_as(batch.input_ids)
    model.train()

    def forward() -> Tensor:
        with autocast(device, work.precision):
            loss: Tensor = call(batch.input_ids, batch.attention_mask, labels=labels).loss
        return loss

    def optimise() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return Step(
        forward=forward,
        backward=lambda loss: loss.backward(),  # type: ignore[no-untyped-call]
        optimise=optimise,
        flops=training_flops(config, work.num_tokens, work.length, work.num_targets),
        network=model,
    )


def plain(config: PretrainedConfig, work: Work, device: torch.device) -> Step:
    """The engine's step, of BERT."""
    return ours(bert_like(config), work, device)


def bert_like(config: PretrainedConfig) -> BertConfig:
    """BERT of the same sizes."""
    names = (
        "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size",
        "initializer_range", "intermediate_size", "layer_norm_eps", "max_position_embeddings",
        "num_attention_heads", "num_hidden_layers", "pad_token_id", "vocab_size",
    )  # fmt: skip
    return BertConfig(**{name: getattr(config, name) for name in names})


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast, unless the precision is that of the weights."""
    dtype = DTYPES[precision]
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


BuildStep = Callable[[PretrainedConfig, Work, torch.device], Step]
SIDES: dict[str, BuildStep] = {"ours": ours, "transformers": transformers, "plain": plain}
