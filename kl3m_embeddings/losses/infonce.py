"""InfoNCE: find an anchor's positive among all texts of the batch."""

from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.gather import first_row, gather
from kl3m_embeddings.losses.similarity import SIMILARITIES, Similarity

MIN_TEMPERATURE = 0.01
"""No learnt temperature falls below it (Radford et al. 2021, section 2.5)."""


class InfoNCE(PairLoss):
    """Cross-entropy of the positive among the batch's texts, by similarity over temperature.

    -log( exp(s(a,p)/t) / sum over candidates c of exp(s(a,c)/t) )

    Candidates are the positives and hard negatives of all pairs, on all devices. Left out of the
    sum are false negatives: texts that equal the anchor or its positive, positives of equal
    anchors, and with `false_negative_margin` texts more similar to the anchor than its positive by
    that margin. An anchor without any negative left has loss 0 and gradient 0; so has a batch of
    one pair.

    Inputs:
        pairs, with or without hard negatives; text_groups (optional) to recognise equal texts;
        guide_embeddings (optional): similarities are compared to the margin by them, in the guide's
        own way, not by the model itself. A row with too few negatives may repeat its positive, if
        there are text_groups.

    Relations:
        SimCSE is this loss with a text as its own positive; CLIP is `symmetric`, learnt
        temperature. MultipleNegativesRankingLoss (sentence-transformers), with scale = 1 / t.
        GISTEmbed's masking is `false_negative_margin` 0 with a guide; NV-Retriever's "95% of the
        positive" is -0.05, relative.

    Reference:
        van den Oord et al. 2018, https://arxiv.org/abs/1807.03748. Learnt temperature: Radford et
        al. 2021, https://arxiv.org/abs/2103.00020. Guide: Solatorio 2024,
        https://arxiv.org/abs/2402.16829. Margin: Moreira et al. 2024,
        https://arxiv.org/abs/2407.15831.
    """

    has_in_batch_negatives = True
    needs_two_pairs = True
    beyond_unit_range = MappingProxyType({"temperature": 1.0})

    def __init__(
        self,
        *,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        symmetric: bool = False,
        false_negative_margin: float | None = None,
        margin_type: Literal["absolute", "relative"] = "absolute",
        cross_device: bool = True,
        similarity: SimilarityName = "cosine",
    ) -> None:
        """Choose the temperature and what counts as a negative.

        Args:
            temperature: of the softmax; where it is learnt, its start.
            learn_temperature: make it a parameter.
            symmetric: the mean of this loss and that of finding positives' anchors among anchors.
            false_negative_margin: may be negative; None keeps all but equal texts.
            margin_type: `relative` multiplies the margin by the positive's similarity.
            cross_device: other devices' texts are negatives too.
            similarity: how vectors are compared.
        """
        super().__init__(similarity=similarity)
        lowest = MIN_TEMPERATURE if learn_temperature else 0.0
        if temperature <= lowest:
            raise ConfigError(f"loss infonce: temperature: {temperature} must be above {lowest}")
        self.fixed_temperature = temperature
        self.raw_temperature: nn.Parameter | None = None
        if learn_temperature:
            self.raw_temperature = nn.Parameter(torch.tensor(temperature - MIN_TEMPERATURE).log())
        self.symmetric = symmetric
        self.false_negative_margin = false_negative_margin
        self.margin_type = margin_type
        self.cross_device = cross_device

    @property
    def temperature(self) -> Float[Tensor, ""] | float:
        """The temperature now. The exponential above a floor, unlike a clamp, keeps a gradient."""
        if self.raw_temperature is None:
            return self.fixed_temperature
        return MIN_TEMPERATURE + self.raw_temperature.exp()

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the anchors of this device."""
        prepared = self.similarity.prepared(embeddings)
        anchors, positives = (_texts(prepared, targets, slice(n, n + 1)) for n in (0, 1))
        # Positives first, then hard negatives: pair i's positive is candidate i.
        candidates = _texts(prepared, targets, slice(1, None))
        loss = self._cross_entropy(anchors, candidates)
        if not self.symmetric:
            return loss
        return (loss + self._cross_entropy(positives, anchors)) / 2

    def _cross_entropy(self, queries: "_Texts", keys: "_Texts") -> Float[Tensor, ""]:
        """Of each query's own key, the one of the same index, among the keys of all devices."""
        own_keys = torch.arange(len(queries.vectors), device=queries.vectors.device)
        if self.cross_device:
            own_keys = own_keys + first_row(len(keys.vectors))
            keys = keys.of_all_devices()
        alike = self.similarity.of_all(queries.vectors, keys.vectors)
        excluded = self._false_negatives(queries, keys, own_keys, alike.detach())
        # Masked after the division: -inf times a gradient of 0 would make the temperature's NaN.
        logits = (alike / self.temperature).masked_fill(excluded, float("-inf"))
        return F.cross_entropy(logits, own_keys)

    def _false_negatives(
        self,
        queries: "_Texts",
        keys: "_Texts",
        own_keys: Int[Tensor, " queries"],
        alike: Float[Tensor, "queries keys"],
    ) -> Bool[Tensor, "queries keys"]:
        """Where a key is no negative of a query; never at the query's own key."""
        excluded = torch.zeros_like(alike, dtype=torch.bool)
        if queries.groups is not None and keys.groups is not None:
            excluded |= keys.groups == queries.groups[:, None]
            excluded |= keys.groups == keys.groups[own_keys][:, None]
            excluded |= keys.partners == queries.groups[:, None]
        if self.false_negative_margin is not None:
            if queries.guides is not None and keys.guides is not None:
                alike = queries.guide.of_all(queries.guides, keys.guides)
            positive = alike.gather(1, own_keys[:, None])
            unit = positive.abs() if self.margin_type == "relative" else 1.0
            excluded |= alike > positive + self.false_negative_margin * unit
        return excluded.scatter(1, own_keys[:, None], False)


class _Texts(NamedTuple):
    """Some columns as one list of texts, with what masking needs to know of each."""

    vectors: Float[Tensor, "texts dim"]
    """As `Similarity.prepared` gives them; so are the guide's."""
    groups: Int[Tensor, " texts"] | None
    partners: Int[Tensor, " texts"] | None
    """Of an anchor its positive's group, of a positive its anchor's; a negative has its own."""
    guides: Float[Tensor, "texts guide_dim"] | None
    guide: Similarity
    """How the guide compares its vectors."""

    def of_all_devices(self) -> "_Texts":
        """Those of every device, in the order of ranks."""
        return self._replace(
            vectors=gather(self.vectors),
            groups=None if self.groups is None else gather(self.groups),
            partners=None if self.partners is None else gather(self.partners),
            guides=None if self.guides is None else gather(self.guides),
        )


def partner_groups(groups: Int[Tensor, "columns pairs"]) -> Int[Tensor, "columns pairs"]:
    """What `_Texts.partners` says, of every text."""
    return torch.cat([groups[1:2], groups[:1], groups[2:]])


def _texts(
    prepared: Float[Tensor, "columns pairs dim"], targets: PairTargets, columns: slice
) -> _Texts:
    """The texts of some columns, one column after another."""
    groups, guides = targets.text_groups, targets.guide_embeddings
    guide = SIMILARITIES[targets.guide_similarity]
    return _Texts(
        vectors=prepared[columns].flatten(0, 1),
        groups=None if groups is None else groups[columns].flatten(),
        partners=None if groups is None else partner_groups(groups)[columns].flatten(),
        guides=None if guides is None else guide.prepared(guides[columns].flatten(0, 1)),
        guide=guide,
    )
