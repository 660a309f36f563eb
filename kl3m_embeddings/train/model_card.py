"""README.md of a checkpoint: what the model is, how to use it, what it was trained on, how good.

1. Front matter for the hub, with the last evaluation in the form of its leaderboards.
2. Prose and tables for people.

The card is a function of its facts alone: nothing of it depends on when it is written. The facts
may hold any text; `card_text.py` keeps it in its place.

Mitchell et al., Model Cards for Model Reporting (https://arxiv.org/abs/1810.03993). Metadata:
https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kl3m_embeddings.train.card_text import fenced, inline, table, yaml_lines

# Metric of held-out pairs, without its @k -> the hub's task.
TASK_OF_METRIC = {
    "ndcg": "information-retrieval",
    "mrr": "information-retrieval",
    "recall": "information-retrieval",
    "spearman": "semantic-similarity",
    "pearson": "semantic-similarity",
    "ap": "binary-classification",
    "auc": "binary-classification",
    "accuracy": "binary-classification",
    "f1": "binary-classification",
}
# What is shown of held-out text: name of the field of eval.jsonl -> name in the card.
TEXT_METRICS = {"mean": "mean_loss", "median": "median_loss", "accuracy": "masked_accuracy"}
HELD_OUT_TEXT = "held-out text"


@dataclass(frozen=True, kw_only=True)
class CardDataset:
    """One dataset that the model was trained on; None: not counted."""

    name: str
    kind: Literal["text", "pairs"]
    num_rows: int | None = None
    """Documents of text, rows of pairs."""
    num_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that the card says, as plain values."""

    name: str
    path: str
    """What SentenceTransformer is to open."""
    model_type: str
    """Of config.json."""
    num_parameters: int
    num_layers: int
    embedding_size: int
    max_length: int
    """In tokens."""
    pooling: str
    num_dense: int = 0
    """Dense layers after the pooling."""
    normalise: bool = False
    similarity: str = "cosine"
    matryoshka_dims: Sequence[int] = ()
    """Sizes that the vectors were trained to be cut to."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncate_dim: int | None = None
    """Size that vectors are cut to unless another is asked for."""
    init_from: str | None = None
    """As training.json has it; None: random weights."""
    other_tokenizer: bool = False
    """The tokenizer is not that of `init_from`."""
    base_model: str | None = None
    """Name on the hub of the model that `init_from` is, if it is one: for the hub's metadata."""
    datasets: Sequence[CardDataset] = ()
    step: int
    """Of the checkpoint."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of training.json, those worth showing: tasks, loss, batch_size, peak_lr; JSON values."""
    command: Sequence[str] = ()
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    """The last row of eval.jsonl: its step, and numbers named as there; null ones are left out."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number of an evaluation."""

    dataset: str
    metric: str
    num_dims: int | None
    """Dimensions that were kept; None: all."""
    value: int | float

    @property
    def task(self) -> str | None:
        """The hub's name of what was evaluated; None where the number is no measure of it."""
        if self.dataset == HELD_OUT_TEXT and self.metric in TEXT_METRICS.values():
            return "fill-mask"
        return TASK_OF_METRIC.get(self.metric.partition("@")[0])


def model_card(facts: CardFacts) -> str:
    """The text of README.md."""
    sections = [front_matter(facts), description(facts), usage(facts)]
    if facts.datasets:
        sections.append(training_data(facts))
    measurements = [*read_measurements(facts.evaluation or {})]
    if measurements:
        sections.append(results(facts, measurements))
    sections.append(training(facts))
    return "\n\n".join(sections) + "\n"


def read_measurements(row: Mapping[str, Any]) -> Iterator[Measurement]:
    """The numbers of a row of eval.jsonl: `name/metric`, `name/metric/dim`, and those of text."""
    for key, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            continue
        *names, last = key.split("/")
        num_dims = int(last) if len(names) > 1 and re.fullmatch("[0-9]+", last) else None
        if num_dims is not None:
            *names, last = names
        if names:
            dataset = "/".join(names)
            yield Measurement(dataset=dataset, metric=last, num_dims=num_dims, value=value)
        elif key in TEXT_METRICS:
            metric = TEXT_METRICS[key]
            yield Measurement(dataset=HELD_OUT_TEXT, metric=metric, num_dims=None, value=value)


def front_matter(facts: CardFacts) -> str:
    """The hub's metadata between two lines of dashes."""
    metadata: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [
            "sentence-transformers",
            "sentence-similarity",
            "feature-extraction",
            facts.model_type,
        ],
    }
    if facts.base_model is not None:
        metadata["base_model"] = facts.base_model
    if entries := model_index(facts):
        metadata["model-index"] = [{"name": facts.name, "results": entries}]
    return "\n".join(["---", *yaml_lines(metadata), "---"])


def model_index(facts: CardFacts) -> list[dict[str, Any]]:
    """Results as the hub wants them: one entry for each dataset and task, with its metrics."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for one in read_measurements(facts.evaluation or {}):
        if one.task is None:
            continue
        entry = entries.setdefault(
            (one.task, one.dataset),
            {
                "task": {"type": one.task, "name": one.task.replace("-", " ").capitalize()},
                "dataset": {"type": dataset_slug(one.dataset), "name": one.dataset},
                "metrics": [],
            },
        )
        metric: dict[str, Any] = {"type": one.metric, "value": one.value, "name": one.metric}
        if one.num_dims is not None:
            metric["name"] = f"{one.metric} at {one.num_dims} dimensions"
            metric["args"] = {"num_dims": one.num_dims}
        entry["metrics"].append(metric)
    return [*entries.values()]


def dataset_slug(name: str) -> str:
    """The name as the hub writes datasets' names."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def description(facts: CardFacts) -> str:
    """What the model is."""
    start = (
        "with random weights"
        if facts.init_from is None
        else f"from the weights of {inline(facts.init_from)}"
        + (", but with another tokenizer than its own" if facts.other_tokenizer else "")
    )
    dense = f", then {facts.num_dense} dense layer(s)" if facts.num_dense else ""
    unit = ", scaled to unit length" if facts.normalise else ""
    sizes = ", ".join(map(str, facts.matryoshka_dims))
    rows = [
        ("Architecture", facts.model_type),
        ("Layers", facts.num_layers),
        ("Parameters", facts.num_parameters),
        ("Dimensions", facts.embedding_size),
        *([("Cut to dimensions, unless told", facts.truncate_dim)] if facts.truncate_dim else []),
        *([("Trained to be cut to dimensions", sizes)] if sizes else []),
        ("Longest text (tokens)", facts.max_length),
        ("Pooling", f"{facts.pooling}{dense}{unit}"),
        ("Similarity", facts.similarity),
    ]
    return (
        f"# {inline(facts.name)}\n\n"
        f"A text encoder: a text becomes a vector of {facts.embedding_size} numbers, and texts of "
        f"similar meaning become similar vectors. Training began {start}; this is step "
        f"{facts.step:,}.\n\n" + table(["Property", "Value"], rows)
    )


def usage(facts: CardFacts) -> str:
    """How to encode texts, with each of the prompts."""
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({facts.path!r})",
        'texts = ["The first text.", "The second text."]',
        "vectors = model.encode(texts)",
    ]
    for name, prompt in facts.prompts.items():
        if prompt:
            lines.append(f"# puts {prompt!r} before each text:")
            lines.append(f"vectors = model.encode(texts, prompt_name={name!r})")
    for size in facts.matryoshka_dims:
        if size < facts.embedding_size:
            lines.append(f"vectors = model.encode(texts, truncate_dim={size})")
    lines.append("similarities = model.similarity(vectors, vectors)")
    text = f"## Usage\n\n{fenced(chr(10).join(lines), 'python')}"
    if facts.default_prompt_name is not None:
        name = inline(facts.default_prompt_name)
        text += f"\n\nWithout `prompt_name`, texts get the prompt named {name}."
    return text


def training_data(facts: CardFacts) -> str:
    """What the model was trained on."""
    rows = [(one.name, one.kind, one.num_rows, one.num_tokens) for one in facts.datasets]
    header = ["Dataset", "Kind", "Documents or rows", "Tokens"]
    return f"## Training data\n\n{table(header, rows)}"


def results(facts: CardFacts, measurements: Sequence[Measurement]) -> str:
    """The last evaluation."""
    step = (facts.evaluation or {}).get("step", facts.step)
    rows = []
    for one in measurements:
        has_dims = one.dataset != HELD_OUT_TEXT and not one.metric.startswith("num_")
        num_dims = one.num_dims or facts.embedding_size
        rows.append((one.dataset, one.metric, num_dims if has_dims else None, one.value))
    header = ["Dataset", "Metric", "Dimensions", "Value"]
    return f"## Results\n\nOn held-out data at step {inline(step)}:\n\n{table(header, rows)}"


def training(facts: CardFacts) -> str:
    """Settings, command, seed, versions and hardware."""
    rows = [*flattened(facts.settings)]
    if facts.seed is not None:
        rows.append(("seed", str(facts.seed)))
    text = "## Training"
    if facts.command:
        text += f"\n\n{fenced(shlex.join(facts.command), 'bash')}"
    for title, values in (
        ("Setting", rows),
        ("Software", [*flattened(facts.versions)]),
        ("Hardware", [*flattened(facts.hardware)]),
    ):
        if values:
            text += f"\n\n{table([title, 'Value'], values)}"
    return text


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names, joined by points where mappings are nested, and values as JSON or bare text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", text
