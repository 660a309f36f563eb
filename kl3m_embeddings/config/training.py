"""Every field of training.json: typed, documented, strict.

The published kl3m folders load unmodified, so their spelling stands (`matroyshka_probability`);
the other spelling is an alias. How the file is read: read.py. The `tasks`: tasks.py.
"""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, JsonValue, model_validator

from kl3m_embeddings.config.section import (
    Count,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    SimilarityName,
)
from kl3m_embeddings.config.tasks import MlmOptions, TasksConfig


class OptimizerConfig(Section):
    """Optimizer, learning-rate schedule and gradient clipping."""

    name: Literal["adamw", "muon"] = "adamw"
    """`muon`: torch.optim.Muon for the 2-D hidden weights, AdamW for the rest."""
    fused: bool = True
    """Use torch's fused AdamW. Without it each step keeps a copy, to undo a non-finite update."""
    scheduler_type: Literal[
        "linear", "linear_warmup_cooldown", "exponential", "exponential_warmup_cooldown"
    ] = "linear_warmup_cooldown"
    """Shape of the learning rate over steps; see docs/training.md."""
    start_lr: NonNegativeFloat = 1e-5
    """Learning rate before the first step."""
    peak_lr: PositiveFloat = 2e-4
    """Learning rate after a linear warm-up."""
    end_lr: NonNegativeFloat = 1e-5
    """Learning rate at `total_steps`; no exponential schedule falls below it."""
    warmup_steps: Count = 1000
    """Steps from `start_lr` to `peak_lr`."""
    peak_steps: Count = 0
    """Steps at `peak_lr`."""
    total_steps: PositiveInt | None = None
    """Steps in all; below warm-up + peak it cuts the schedule. Exponential: sum of its parts."""
    warmup_factor: PositiveFloat = 2.0
    """Exponential warm-up: multiplies the rate once a period."""
    warmup_steps_per_period: PositiveInt = 100
    """Steps of a period of the exponential warm-up."""
    warmup_periods: Count = 4
    """Periods of the exponential warm-up."""
    constant_steps: Count = 1000
    """Steps between the exponential warm-up and cool-down."""
    cooldown_factor: PositiveFloat = 0.5
    """Exponential cool-down: multiplies the rate once a period."""
    cooldown_steps_per_period: PositiveInt = 1000
    """Steps of a period of the exponential cool-down."""
    cooldown_periods: Count = 4
    """Periods of the exponential cool-down."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient norm above which gradients are scaled down, until enough norms are known."""
    max_grad_norm_pct: Annotated[float, Field(gt=0.0, le=100.0)] | None = 90.0
    """Then: this percentile of the last norms. null keeps `max_grad_norm` throughout."""
    max_grad_norm_window: Annotated[int, Field(ge=100)] = 1000
    """How many of the last norms the percentile is taken over; it starts once 100 are known."""
    muon_lr: PositiveFloat = 2e-3
    """Peak rate of the weights that Muon trains; it follows the same schedule as `peak_lr`."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Muon's momentum."""
    adamw_beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of AdamW's first moment."""
    adamw_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98
    """Decay of AdamW's second moment."""
    adamw_eps: PositiveFloat = 1e-8
    """AdamW's epsilon."""
    adamw_wd: NonNegativeFloat = 0.01
    """Weight decay of matrices; biases and norms have none."""
    gradient_accumulation_steps: PositiveInt = 1
    """Micro-batches of one optimizer step."""

    @model_validator(mode="after")
    def _has_an_end(self) -> "OptimizerConfig":
        if self.total_steps is None and self.scheduler_type != "exponential_warmup_cooldown":
            raise ValueError(
                f"total_steps is missing, and scheduler {self.scheduler_type} needs it"
            )
        return self

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        if self.total_steps is not None:
            return self.total_steps
        warmup = self.warmup_periods * self.warmup_steps_per_period
        return warmup + self.constant_steps + self.cooldown_periods * self.cooldown_steps_per_period


class DatasetConfig(Section):
    """One named source of text."""

    path: str | list[str]
    """Built shards (a folder with dataset.json), or raw text, from which shards are built once."""
    weight: PositiveFloat | None = None
    """Share of samples, relative to the other datasets'. All or none: none means by size."""
    text_column: str = "text"
    """Column or key that holds the text, for raw text in tables or JSON lines."""
    id_column: str = "id"
    """Column or key that names the document."""


class PairFilesConfig(Section):
    """One named set of pairs; docs/pairs.md tells the formats."""

    path: str | list[str]
    """Files, folders or globs; or a built pair set (a folder with dataset.json)."""
    weight: PositiveFloat | None = None
    """Share of batches, relative to the other sets'. All or none: none means by rows."""


class EvalPairsConfig(Section):
    """One named set of held-out pairs: what is measured follows from its labels."""

    path: str | list[str]
    """Files, folders or globs; or a built pair set (a folder with dataset.json)."""
    max_rows: PositiveInt | None = None
    """Evaluate so many of its rows, the same ones each time; null: all."""
    max_documents: PositiveInt | None = 50_000
    """Of sets without labels: ask each query among so many documents, the relevant ones and, as
    far as there is room, some of the others; null: all. More documents are harder to tell apart."""


class EvalConfig(Section):
    """What is evaluated every `steps_per_eval`, beside the loss on held-out text."""

    pairs: dict[str, EvalPairsConfig] = Field(default_factory=dict)
    """Named sets of held-out pairs. `--eval-pairs NAME=PATH` replaces them."""
    tasks: list[str] = Field(default_factory=list)
    """Folders with a task.json (docs/local-tasks.md), whose scores join the row: small ones, of
    types Retrieval, Reranking, STS and PairClassification."""
    dims: list[PositiveInt] | None = None
    """Also with so many dimensions only; null: the tasks' `matryoshka_dims`."""


class SaveConfig(Section):
    """Which checkpoints are kept."""

    keep_last: PositiveInt = 2
    """The newest ones; two at least, for only a later step shows that the newest is good."""
    keep_every: PositiveInt | None = None
    """Also every checkpoint whose step is a multiple of this."""
    keep_best: bool = False
    """Also the best one by `best_metric`."""
    best_metric: str | None = None
    """A field of eval.jsonl, the highest wins, as `docs/ndcg@10`, `tasks/mine/ndcg_at_10`; null:
    the lowest mean loss, or where no text is evaluated the first set's or task's main metric."""


class TrainingConfig(Section):
    """training.json."""

    tokenizer: str | None = None
    """Folder with a tokenizer.json, the file itself, a hub name, or `package:NAME/FOLDER`; null:
    that of `init_from`."""
    data: dict[str, DatasetConfig] = Field(default_factory=dict)
    """Named datasets. `--data NAME=PATH` on the command line replaces them."""
    pairs: dict[str, PairFilesConfig] = Field(default_factory=dict)
    """Named sets of pairs, for the task of that name. `--pairs NAME=PATH` replaces them."""
    tasks: TasksConfig = Field(default_factory=lambda: TasksConfig(mlm=MlmOptions(probability=1.0)))
    """What is trained, by probability."""
    optimizer: OptimizerConfig
    """Optimizer, schedule, clipping."""
    seed: Count = 0
    """Of the weights, the order of the data, the masks and dropout."""
    init_from: str | None = None
    """Start from this model: a model folder (its newest checkpoint), any transformers or
    sentence-transformers folder, a hub name, or `package:NAME/FOLDER` in an installed Python
    package. Its pooling, Dense layers, normalisation, similarity and prompts are kept. null: random
    weights."""
    precision: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Of the computation; the weights that are trained are float32 always. `auto`: bfloat16 where
    the device multiplies in it, else float32."""
    batch_size: PositiveInt = 64
    """Samples of a micro-batch, per device."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of a sample, special ones included; null: the encoder's max_position_embeddings."""
    compile: bool = False
    """Run the encoder through torch.compile."""
    deterministic: bool | None = None
    """Same bits at every repetition; null: on the CPU only (on a GPU it costs speed)."""
    gradient_checkpointing: bool = False
    """Compute each layer again in the backward pass: less memory, a third more time."""
    pooling: Literal["mean", "cls", "max", "mean_sqrt_len"] | None = None
    """From the tokens' vectors to the text's; null: as `init_from` has it, else `mean`."""
    normalise: bool | None = None
    """Scale a text's vector to unit length; null: as `init_from` has it, else not."""
    similarity: SimilarityName | None = None
    """How vectors are compared, by losses, evaluation and the exported model; distances count as
    minus them. null: as `init_from` has it, else `cosine`."""
    query_prefix: str | None = None
    """Put before every query of a pair; null: the prompt `query` of `init_from`, else none."""
    document_prefix: str | None = None
    """Put before every positive and negative; null: the prompt `document`, or none."""
    matroyshka_probability: Probability = Field(
        0.0, validation_alias=AliasChoices("matroyshka_probability", "matryoshka_probability")
    )
    """Share of steps that train with only the first `reduced_dim` embedding dimensions."""
    matroyshka_min_log2: Count = Field(
        3, validation_alias=AliasChoices("matroyshka_min_log2", "matryoshka_min_log2")
    )
    """The smallest `reduced_dim` is two to this power."""
    steps_per_epoch: PositiveInt = 1_000_000
    """Only names the `epoch` in the log."""
    steps_per_save: PositiveInt = 1000
    """Steps between checkpoints."""
    steps_per_eval: PositiveInt = 1000
    """Steps between evaluations."""
    num_eval_samples: Count = 1000
    """Held-out samples, drawn once and written to eval_samples.jsonl; 0: no text is evaluated."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    """What else is evaluated."""
    save: SaveConfig = Field(default_factory=SaveConfig)
    """Which checkpoints are kept."""
    max_skipped_steps: PositiveInt = 20
    """Stop after this many steps in a row whose loss or gradient is not finite."""
    endpoint_url: str | None = None
    """Published runs drew samples from a server. Accepted and ignored, with a warning."""
    deepspeed: dict[str, JsonValue] | None = None
    """Settings for train_deepspeed.py; train_single.py reads gradient_accumulation_steps only."""

    @property
    def gradient_accumulation_steps(self) -> int:
        """Micro-batches of a step, wherever they are set."""
        deepspeed = (self.deepspeed or {}).get("gradient_accumulation_steps")
        if isinstance(deepspeed, int) and "gradient_accumulation_steps" not in (
            self.optimizer.model_fields_set
        ):
            return deepspeed
        return self.optimizer.gradient_accumulation_steps

    @property
    def masks_tokens(self) -> bool:
        """Whether a task predicts masked tokens."""
        return bool(self.tasks.chosen().keys() - self.tasks.embedding().keys())

    @property
    def reads_text(self) -> bool:
        """Whether a task is made of the datasets of `data`."""
        return bool(self.tasks.chosen().keys() - {"pairs"})

    @model_validator(mode="after")
    def _weights_all_or_none(self) -> "TrainingConfig":
        for key, sets in (("data", self.data), ("pairs", self.pairs)):
            weights = {name: one.weight for name, one in sets.items()}
            missing = sorted(name for name, weight in weights.items() if weight is None)
            if 0 < len(missing) < len(weights):
                raise ValueError(f"{key}: give every entry a weight or none (missing: {missing})")
        return self

    @model_validator(mode="after")
    def _has_a_tokenizer(self) -> "TrainingConfig":
        if self.tokenizer is None and self.init_from is None:
            raise ValueError("tokenizer: missing, and there is no init_from to take it from")
        return self
