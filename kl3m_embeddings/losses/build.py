"""A loss for how a run compares vectors: what it can do with them, and its defaults there."""

from collections.abc import Mapping
from typing import Any

from kl3m_embeddings.config.losses import AnyLossOptions, loss_arguments
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.base import Compared, PairLoss
from kl3m_embeddings.losses.similarity import SIMILARITIES


def chosen_loss(task: str, options: AnyLossOptions, compared: Compared) -> PairLoss:
    """The loss that a task's options name; see `build_loss`."""
    where = f"tasks.{task}.loss: {options.name}"
    return build_loss(options.name, loss_arguments(options), compared, where)


def build_loss(name: str, arguments: Mapping[str, Any], compared: Compared, where: str) -> PairLoss:
    """A loss of the table that compares vectors as the run does.

    Args:
        name: of LOSSES.
        arguments: of its class; those left out have a default that suits the similarities.
        compared: how the run compares vectors.
        where: begins an error.

    Raises:
        ConfigError: the loss cannot compare so, or lacks an argument without a default there.
    """
    kind = LOSSES[name]
    if problem := _problem(kind, compared):
        raise ConfigError(f"{where}: {problem}")
    defaults = {} if compared.in_unit_range else kind.beyond_unit_range
    given = {**defaults, **arguments}
    for option in defaults:
        if given[option] is None:
            raise ConfigError(
                f"{where}: {option}: has no default where the similarity is "
                f"{compared.similarity}, whose values may be of any size: set it"
            )
    return kind(**given, similarity=compared.similarity)


def _problem(kind: type[PairLoss], compared: Compared) -> str | None:
    """Why the loss cannot compare so, and a way out; None if it can."""
    if SIMILARITIES[compared.similarity].is_distance:
        if not kind.takes_distances:
            return (
                f"it is made for cosines, and the similarity is {compared.similarity}: "
                "set similarity to cosine, or train by infonce"
            )
    elif not compared.in_unit_range and not kind.takes_products:
        return (
            "it is made for similarities that end at 1, and products of vectors of any length "
            "(similarity dot) do not: set similarity to cosine or normalise to true, or train by "
            "infonce"
        )
    return None
