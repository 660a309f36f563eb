"""The `loss` of an embedding task: a name, or an object with that name and options.

What each loss computes: docs/losses.md. The defaults here are those of its class.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kl3m_embeddings.config.section import PositiveFloat, Section


class InfoNCEOptions(Section):
    """Find an anchor's positive among all texts of the batch."""

    name: Literal["infonce"] = "infonce"
    """Of the loss."""
    temperature: PositiveFloat = 0.05
    """Of the softmax over cosines; where it is learnt, its start."""
    learn_temperature: bool = False
    """Make the temperature a parameter; it never falls below 0.01."""
    symmetric: bool = False
    """Also find each positive's anchor among the anchors; the mean of both."""
    false_negative_margin: float | None = None
    """Leave out candidates more similar to the anchor than its positive by this; null: keep."""
    margin_type: Literal["absolute", "relative"] = "absolute"
    """`relative` multiplies the margin by the positive's similarity."""
    cross_device: bool = True
    """The other devices' texts are negatives, too."""


class CosineOptions(Section):
    """The cosine of a pair should be its label."""

    name: Literal["cosine"] = "cosine"
    """Of the loss."""


class ContrastiveOptions(Section):
    """Alike together, different at least a margin apart."""

    name: Literal["contrastive"] = "contrastive"
    """Of the loss."""
    margin: PositiveFloat = 0.5
    """Cosine distance beyond which different pairs are let be."""


class OnlineContrastiveOptions(Section):
    """As `contrastive`, of the batch's hard pairs only."""

    name: Literal["online_contrastive"] = "online_contrastive"
    """Of the loss."""
    margin: PositiveFloat = 0.5
    """Cosine distance beyond which different pairs are let be."""


class TripletOptions(Section):
    """The positive nearer than each hard negative by a margin."""

    name: Literal["triplet"] = "triplet"
    """Of the loss."""
    margin: PositiveFloat = 0.3
    """In the unit of the distance."""
    distance: Literal["cosine", "euclidean"] = "cosine"
    """Between embeddings; the euclidean one does not normalise them."""


class CoSENTOptions(Section):
    """Cosines in the order of the labels."""

    name: Literal["cosent"] = "cosent"
    """Of the loss."""
    temperature: PositiveFloat = 0.05
    """Cosines are divided by it."""


class MarginMSEOptions(Section):
    """The gap between positive and negative should be the teacher's."""

    name: Literal["margin_mse"] = "margin_mse"
    """Of the loss."""
    similarity: Literal["dot", "cosine"] = "dot"
    """Of the student."""


class KLDistillationOptions(Section):
    """The softmax over positive and negatives should be the teacher's."""

    name: Literal["kl_distillation"] = "kl_distillation"
    """Of the loss."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Of the student."""
    student_temperature: PositiveFloat = 0.05
    """Divides the student's similarities."""
    teacher_temperature: PositiveFloat = 1.0
    """Divides the teacher's scores."""


AnyLossOptions = (
    InfoNCEOptions
    | CosineOptions
    | ContrastiveOptions
    | OnlineContrastiveOptions
    | TripletOptions
    | CoSENTOptions
    | MarginMSEOptions
    | KLDistillationOptions
)


def loss_value(value: object) -> object:
    """A bare name is a loss with its defaults; an object without a name is InfoNCE."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" not in value:
        return {"name": "infonce", **value}
    return value


LossOptions = Annotated[AnyLossOptions, Field(discriminator="name"), BeforeValidator(loss_value)]


def loss_arguments(options: AnyLossOptions) -> dict[str, Any]:
    """What the loss's class is called with."""
    return options.model_dump(exclude={"name"})
