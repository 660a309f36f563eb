"""The `tasks` of training.json: what a step trains, and how.

Masked tasks (mlm, nsp, nlp, mhm) predict tokens; embedding tasks (crop, ict, simcse, ssd, pairs)
compare the vectors of texts.
"""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from kl3m_embeddings.config.losses import InfoNCEOptions, LossOptions, loss_value
from kl3m_embeddings.config.section import (
    Count,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class MaskedOptions(Section):
    """What every masked task has."""

    probability: Probability
    """Share of steps that train this task."""


class MlmOptions(MaskedOptions):
    """Masked language modelling."""

    mask_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of a sample's tokens that are predicted: 80% masked, 10% random, 10% kept."""
    masking: Literal["token", "word", "span"] = "token"
    """What is chosen: single tokens, whole words, or spans of a geometric length."""
    mean_span_tokens: PositiveFloat = 3.0
    """Mean length of a span, for `span`."""
    pack: bool = False
    """Rows hold several short documents, which do not attend to each other. DeBERTa only."""


class NspOptions(MaskedOptions):
    """Next segment or not, beside masked language modelling."""

    mask_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of tokens predicted by the masked-language-model head of the same step."""
    variant: Literal["next_segment", "sentence_order"] = "next_segment"
    """What is told apart: half of the pairs come from two documents, or half are swapped."""


class NlpOptions(MaskedOptions):
    """Next-line prediction: a line wholly masked, predicted from the lines before it."""

    max_line_tokens: PositiveInt = 32
    """Longer lines are predicted up to this many tokens."""


class MhmOptions(MaskedOptions):
    """Masked-heading modelling: a heading wholly masked, predicted from the body below it."""

    max_heading_tokens: PositiveInt = 24
    """A line longer than this is no heading."""


InfoNCELoss = Annotated[InfoNCEOptions, BeforeValidator(loss_value)]


class EmbeddingOptions(Section):
    """What every embedding task has."""

    probability: Probability
    """Share of steps that train this task."""
    batch_size: PositiveInt | None = None
    """Samples of a micro-batch, per device; null: the run's `batch_size`."""
    seq_len: Annotated[int, Field(ge=8)] | None = None
    """Tokens of a text, special ones included; null: the run's `max_length`."""
    matryoshka_dims: list[PositiveInt] | None = None
    """Take the loss at each of these sizes of the embedding; list the full size, too."""
    matryoshka_weights: list[PositiveFloat] | None = None
    """One for each of `matryoshka_dims`; null: all 1."""
    chunk_tokens: PositiveInt | None = None
    """GradCache: never hold the graph of more tokens than this, padding included; null: all."""

    @model_validator(mode="after")
    def _dims_are_sizes(self) -> "EmbeddingOptions":
        dims = self.matryoshka_dims
        if dims is None:
            return self
        if not dims:
            raise ValueError("matryoshka_dims: none is named: name sizes, or leave it out")
        if repeated := [dim for dim in dims if dims.count(dim) > 1]:
            raise ValueError(
                f"matryoshka_dims: {repeated[0]} is named twice: name each size once, and weigh it "
                "by matryoshka_weights"
            )
        return self

    @model_validator(mode="after")
    def _weights_fit_dims(self) -> "EmbeddingOptions":
        weights, dims = self.matryoshka_weights, self.matryoshka_dims
        if weights is not None and len(weights) != len(dims or ()):
            raise ValueError(
                f"matryoshka_weights: {len(weights)} for {len(dims or ())} matryoshka_dims: "
                "give one for each"
            )
        return self


class UnlabelledOptions(EmbeddingOptions):
    """An embedding task whose pairs come from the corpus: there is nothing but InfoNCE for them."""

    loss: InfoNCELoss = Field(default_factory=InfoNCEOptions)
    """`infonce`, or its options."""


class CropOptions(UnlabelledOptions):
    """Two random spans of one document are a pair."""

    min_tokens: PositiveInt = 16
    """Of a span; documents with fewer than twice as many give shorter ones."""
    passage_tokens: PositiveInt | None = 512
    """Both spans lie within so many tokens of each other; null: anywhere in the document."""


class IctOptions(UnlabelledOptions):
    """Inverse cloze: a sentence is the query of the passage it stands in."""

    keep_rate: Probability = 0.1
    """Share of samples in which the sentence stays in its passage."""
    min_sentence_tokens: PositiveInt = 8
    """A shorter sentence is no query."""


class SimcseOptions(UnlabelledOptions):
    """A text is its own positive, under another dropout mask."""


class SsdOptions(EmbeddingOptions):
    """Same document, same dataset, different dataset: quads under their own loss."""


class PairsOptions(EmbeddingOptions):
    """Queries with their positives and negatives, from the files of `pairs`."""

    loss: LossOptions = Field(default_factory=InfoNCEOptions)
    """Name of a loss, or an object with its `name` and options."""
    num_negatives: Count = 0
    """Hard negatives of a query; rows that have fewer are left out, and counted."""
    guide: str | None = None
    """A model (folder or hub name) by whose similarity `false_negative_margin` is taken."""

    @model_validator(mode="after")
    def _guide_is_used(self) -> "PairsOptions":
        margin = getattr(self.loss, "false_negative_margin", None)
        if self.guide is not None and margin is None:
            raise ValueError(
                f"guide: nothing asks it with the loss {self.loss.name}: give infonce a "
                "false_negative_margin, or leave guide out"
            )
        return self


TaskOptions = MaskedOptions | EmbeddingOptions


def _task_value(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"probability": value} if is_number else value


class TasksConfig(Section):
    """Each task's probability, or an object `{"probability": p, ...options}`; they sum to 1."""

    mlm: Annotated[MlmOptions | None, BeforeValidator(_task_value)] = None
    """Masked language modelling."""
    nsp: Annotated[NspOptions | None, BeforeValidator(_task_value)] = None
    """Next-segment prediction or sentence order, beside masked language modelling."""
    nlp: Annotated[NlpOptions | None, BeforeValidator(_task_value)] = None
    """Next-line prediction."""
    mhm: Annotated[MhmOptions | None, BeforeValidator(_task_value)] = None
    """Masked-heading modelling."""
    crop: Annotated[CropOptions | None, BeforeValidator(_task_value)] = None
    """Two spans of one document."""
    ict: Annotated[IctOptions | None, BeforeValidator(_task_value)] = None
    """A sentence against the rest of its passage."""
    simcse: Annotated[SimcseOptions | None, BeforeValidator(_task_value)] = None
    """A text against itself, dropout twice."""
    ssd: Annotated[SsdOptions | None, BeforeValidator(_task_value)] = None
    """Same, similar and different documents."""
    pairs: Annotated[PairsOptions | None, BeforeValidator(_task_value)] = None
    """Queries with positives and negatives."""

    def chosen(self) -> dict[str, TaskOptions]:
        """The tasks with a probability above zero, in the order of the table."""
        options = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: option for name, option in options.items() if option and option.probability}

    def embedding(self) -> dict[str, EmbeddingOptions]:
        """Those of `chosen` that compare the vectors of texts."""
        chosen = self.chosen().items()
        return {name: one for name, one in chosen if isinstance(one, EmbeddingOptions)}

    @model_validator(mode="after")
    def _sums_to_one(self) -> "TasksConfig":
        total = sum(option.probability for option in self.chosen().values())
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"the probabilities sum to {total:g}, and must sum to 1")
        return self
