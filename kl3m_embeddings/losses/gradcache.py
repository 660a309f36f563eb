"""GradCache: the batch of a contrastive loss is bounded by the loss, not by the encoder's memory.

A loss over a batch needs all embeddings at once, but not all of their graphs.

1. Embed the batch chunk by chunk without gradients.
2. Compute the loss of all embeddings, its gradient with respect to each (`cached_gradients`), and
   with respect to the loss's own parameters. The graph of this step holds no encoder.
3. Embed each chunk again, now with gradients, and go backward from a scalar whose gradient with
   respect to the embeddings is the cached one (`surrogate`). Dropout is the same as in step 1: it
   is a function of the rows. A learnt temperature is one more chunk.

By the chain rule the parameters' gradients are those of the whole batch, for one more forward pass:

    dL/dparameters = sum over chunks of (dL/d embeddings of the chunk) (d embeddings / dparameters),

where the first factor is step 2's and the second step 3's.

Gao et al. 2021, https://arxiv.org/abs/2101.06983.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kl3m_embeddings.data.batch import PairTargets


@dataclass(frozen=True, kw_only=True)
class CachedGradients:
    """What step 2 leaves: no graph."""

    loss: Float[Tensor, ""]
    embeddings: Float[Tensor, "columns pairs dim"]
    """The loss's gradient with respect to the embeddings."""
    parameters: dict[str, Tensor]
    """With respect to each of the loss's parameters that is trained, by name."""


def cached_gradients(
    loss: nn.Module, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
) -> CachedGradients:
    """Step 2. With several devices a collective: all of them call it."""
    parameters = {name: value for name, value in loss.named_parameters() if value.requires_grad}
    with torch.enable_grad():
        leaf = embeddings.detach().requires_grad_()
        value = loss(leaf, targets)
        of_embeddings, *of_parameters = torch.autograd.grad(
            value, [leaf, *parameters.values()], materialize_grads=True
        )
    return CachedGradients(
        loss=value.detach(),
        embeddings=of_embeddings,
        parameters=dict(zip(parameters, of_parameters, strict=True)),
    )


def surrogate(
    outputs: Float[Tensor, "*shape"],
    gradients: Float[Tensor, "*shape"],
    share: Float[Tensor, ""] | float = 0.0,
) -> Float[Tensor, ""]:
    """Step 3: a scalar with this gradient and this value.

    (x - detached x) is 0, and its gradient is that of x.

    Args:
        outputs: a chunk's embeddings with their graph, in any order and shape; or a parameter of
            the loss.
        gradients: the cached gradients, in the same order and shape.
        share: the value: what this chunk adds to the loss that is logged.
    """
    return ((outputs - outputs.detach()) * gradients).sum() + share
