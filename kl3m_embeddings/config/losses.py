"""The `loss` of an embedding task: a name, or an object with that name and options.

What each loss computes, by the run's `similarity`: docs/losses.md. The defaults here are those of
its class.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kl3m_embeddings.config.section import PositiveFloat, Section


class InfoNCEOptions(Section):
    """Find an anchor's positive among all texts of the batch."""

    name: Literal["infonce"] = "infonce"
    """Of the loss."""
    temperature: PositiveFloat | None = None
    """Of the softmax over similarities; where it is learnt, its start. null: 0.05 for those that
    lie from -1 to 1 or from -2 to 0, 1 for others; see docs/losses.md."""
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
    margin: PositiveFloat | None = None
    """Distance beyond which different pairs are let be; null: 0.5, where distances end at 2."""


class OnlineContrastiveOptions(Section):
    """As `contrastive`, of the batch's hard pairs only."""

    name: Literal["online_contrastive"] = "online_contrastive"
    """Of the loss."""
    margin: PositiveFloat | None = None
    """Distance beyond which different pairs are let be; null: 0.5, where distances end at 2."""


class TripletOptions(Section):
    """The positive nearer than each hard negative by a margin."""

    name: Literal["triplet"] = "triplet"
    """Of the loss."""
    margin: PositiveFloat | None = None
    """In the unit of the run's `similarity`; null: 0.3, where distances end at 2."""


class CoSENTOptions(Section):
    """Similarities in the order of the labels."""

    name: Literal["cosent"] = "cosent"
    """Of the loss."""
    temperature: PositiveFloat | None = None
    """Similarities are divided by it; null: as of `infonce`."""


class MarginMSEOptions(Section):
    """The gap between positive and negative should be the teacher's."""

    name: Literal["margin_mse"] = "margin_mse"
    """Of the loss."""


class KLDistillationOptions(Section):
    """The softmax over positive and negatives should be the teacher's."""

    name: Literal["kl_distillation"] = "kl_distillation"
    """Of the loss."""
    student_temperature: PositiveFloat | None = None
    """Divides the student's similarities; null: as the temperature of `infonce`."""
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
    """What the loss's class is called with; null is left to its default."""
    return options.model_dump(exclude={"name"}, exclude_none=True)
