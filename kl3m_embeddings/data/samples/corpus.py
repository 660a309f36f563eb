"""Windows of text out of token shards: what a sample is before a task makes a batch of it.

A document longer than a window gives evenly spread windows that cover it with as little overlap
as their number allows, so that none is mostly padding. Of n windows of w tokens in a document of l,
n = ceil(l / w), window i begins at token i (l - w) // (n - 1): with l = 10 and w = 4 at 0, 3 and 6.

Windows of a dataset are counted through all its documents; nothing but the count before each
document is stored, and a window is found by binary search in it. Some documents are held out for
evaluation: they give no training window at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from kl3m_embeddings.data.counter_random import derive_key, permute
from kl3m_embeddings.data.samples.order import SampleOrder
from kl3m_embeddings.data.shards.token_shards import TokenShards
from kl3m_embeddings.errors import DataError

MAX_HELD_OUT_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Token windows and where they come from."""

    tokens: Int64[np.ndarray, "samples window"]
    """Zeros from a row's length on."""
    lengths: Int64[np.ndarray, " samples"]
    """At least 1."""
    datasets: Int64[np.ndarray, " samples"]
    """Which dataset of the corpus."""
    documents: Int64[np.ndarray, " samples"]
    """Which document of the dataset."""
    starts: Int64[np.ndarray, " samples"]
    """The first token's position in the dataset's token stream."""


class Spans(NamedTuple):
    """Pieces of documents."""

    datasets: Int64[np.ndarray, " samples"]
    documents: Int64[np.ndarray, " samples"]
    starts: Int64[np.ndarray, " samples"]
    """The first token's position in the dataset's token stream."""
    lengths: Int64[np.ndarray, " samples"]


@dataclass(frozen=True, kw_only=True)
class WindowIndex:
    """Counts the windows of one dataset's chosen documents, and finds each by its index."""

    shards: TokenShards
    window: int
    first_windows: Int64[np.ndarray, " documents_and_1"]
    """The number of windows before each document."""

    @classmethod
    def build(
        cls, shards: TokenShards, window: int, chosen: Bool[np.ndarray, " documents"]
    ) -> "WindowIndex":
        """Index the documents where `chosen` is true."""
        lengths = np.diff(shards.document_starts)
        num_windows = np.where(chosen, -(-lengths // window), 0)
        first_windows = np.concatenate([[0], np.cumsum(num_windows)]).astype(np.int64)
        return cls(shards=shards, window=window, first_windows=first_windows)

    @property
    def num_windows(self) -> int:
        """Windows of all chosen documents."""
        return int(self.first_windows[-1])

    def locate(
        self, windows: Int64[np.ndarray, " windows"]
    ) -> tuple[Int64[np.ndarray, " windows"], Int64[np.ndarray, " windows"]]:
        """Documents, and starts in the token stream."""
        # side="right": a document without windows has the next one's count, and is passed over.
        documents = np.searchsorted(self.first_windows, windows, side="right") - 1
        starts = self.shards.document_starts[documents]
        lengths = self.shards.document_starts[documents + 1] - starts
        num_windows = self.first_windows[documents + 1] - self.first_windows[documents]
        index = windows - self.first_windows[documents]  # within its document
        slack = np.maximum(lengths - self.window, 0)
        return documents, starts + index * slack // np.maximum(num_windows - 1, 1)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Several datasets read as one endless, seeded stream of windows."""

    names: Sequence[str]
    indices: Sequence[WindowIndex]
    order: SampleOrder
    window: int

    def windows(self, first_sample: int, count: int) -> Windows:
        """Samples `first_sample` and on: a pure function of the seed and the indices."""
        return self.read(self.locate(first_sample, count), self.window)

    def locate(self, first_sample: int, count: int) -> Spans:
        """Where the windows of samples `first_sample` and on are."""
        return self.located(*self.order.locate(first_sample, count))

    def located(
        self, datasets: Int64[np.ndarray, " samples"], windows: Int64[np.ndarray, " samples"]
    ) -> Spans:
        """Where windows are, by their indices in their datasets."""
        documents = np.empty_like(windows)
        starts = np.empty_like(windows)
        for dataset in np.unique(datasets):
            rows = datasets == dataset
            documents[rows], starts[rows] = self.indices[dataset].locate(windows[rows])
        return self.window_spans(datasets, documents, starts)

    def window_spans(
        self,
        datasets: Int64[np.ndarray, " samples"],
        documents: Int64[np.ndarray, " samples"],
        starts: Int64[np.ndarray, " samples"],
    ) -> Spans:
        """Windows at these `starts`, up to the ends of their documents."""
        _, ends = self.document_bounds(datasets, documents)
        return Spans(datasets, documents, starts, np.minimum(ends - starts, self.window))

    def cut(
        self,
        datasets: Int64[np.ndarray, " samples"],
        documents: Int64[np.ndarray, " samples"],
        starts: Int64[np.ndarray, " samples"],
    ) -> Windows:
        """Windows at other `starts` within the given documents."""
        return self.read(self.window_spans(datasets, documents, starts), self.window)

    def read(self, spans: Spans, width: int | None = None) -> Windows:
        """The tokens of spans, `width` of each or as many as the longest has."""
        width = int(spans.lengths.max()) if width is None else width
        tokens = np.empty((len(spans.starts), width), dtype=np.int64)
        for dataset in np.unique(spans.datasets):
            rows = spans.datasets == dataset
            tokens[rows] = self.indices[dataset].shards.gather(spans.starts[rows], width)
        tokens[np.arange(width) >= spans.lengths[:, None]] = 0
        return Windows(tokens=tokens, **spans._asdict())

    def document_bounds(
        self, datasets: Int64[np.ndarray, " samples"], documents: Int64[np.ndarray, " samples"]
    ) -> tuple[Int64[np.ndarray, " samples"], Int64[np.ndarray, " samples"]]:
        """Where documents begin and end in their token streams."""
        starts = np.empty_like(documents)
        ends = np.empty_like(documents)
        for dataset in np.unique(datasets):
            rows = datasets == dataset
            document_starts = self.indices[dataset].shards.document_starts
            starts[rows] = document_starts[documents[rows]]
            ends[rows] = document_starts[documents[rows] + 1]
        return starts, ends

    def document_start(self, windows: Windows) -> Int64[np.ndarray, " samples"]:
        """Where each window's document begins in the token stream."""
        return self.document_bounds(windows.datasets, windows.documents)[0]

    def document_hashes(
        self, datasets: Int64[np.ndarray, " samples"], documents: Int64[np.ndarray, " samples"]
    ) -> Int64[np.ndarray, " samples"]:
        """An integer for each document, equal for equal ones.

        It is that of the length and the first window: documents of the same length that differ
        only after it count as equal, too.
        """
        starts, ends = self.document_bounds(datasets, documents)
        return text_hashes(self.cut(datasets, documents, starts).tokens, ends - starts)

    def document_ids(self, windows: Windows | Spans) -> dict[str, list[str]]:
        """The distinct documents of the windows, by dataset name, in order of appearance."""
        seen: dict[str, dict[str, None]] = {}
        for dataset, document in zip(windows.datasets, windows.documents, strict=True):
            name = self.indices[dataset].shards.document_id(int(document))
            seen.setdefault(self.names[dataset], {})[name] = None
        return {name: list(ids) for name, ids in seen.items()}


def text_hashes(
    tokens: Int64[np.ndarray, "texts longest"], lengths: Int64[np.ndarray, " texts"]
) -> Int64[np.ndarray, " texts"]:
    """An integer for each text, equal for equal ones, from 0 to 2**63.

    Multilinear hashing, (m_0 length + sum of m_i token_i) mod 2**64 with random m, of which the
    upper 63 bits are kept (Lemire and Kaser 2014, https://arxiv.org/abs/1202.4961): different texts
    of 2**18 ids collide with a probability of at most 2**-45.

    Args:
        tokens: what lies beyond a text's length does not matter.
        lengths: of a text that goes on beyond `tokens`, its whole length.
    """
    width = tokens.shape[1]
    multipliers = np.random.Philox(key=derive_key("text hash")).random_raw(width + 1)
    values = np.where(np.arange(width) < lengths[:, None], tokens, 0).astype(np.uint64)
    # uint64 wraps around: that is the modulus.
    sums = values @ multipliers[1:] + lengths.astype(np.uint64) * multipliers[0]
    hashes: np.ndarray = (sums >> np.uint64(1)).astype(np.int64)
    return hashes


def open_corpora(
    shards: Sequence[TokenShards],
    weights: Sequence[float] | None,
    *,
    window: int,
    seed: int,
    num_held_out: int,
) -> tuple[Corpus, Corpus | None]:
    """The training corpus and the held-out one.

    Args:
        shards: one for every dataset.
        weights: relative share of samples; None: by number of windows.
        window: tokens of a window.
        seed: of the order and of which documents are held out.
        num_held_out: about so many documents are held out in all, and at most 5% of a dataset.

    Returns:
        The second is None where the datasets have too few documents to hold some out.

    Raises:
        DataError: a dataset has no text.
    """
    # Each dataset's part of `num_held_out` by its documents, rounded up.
    quotas = [
        -(-num_held_out * one.num_documents // sum(s.num_documents for s in shards))
        for one in shards
    ]
    held_out = [_held_out(one, quota, seed) for one, quota in zip(shards, quotas, strict=True)]
    train = [
        WindowIndex.build(one, window, ~out) for one, out in zip(shards, held_out, strict=True)
    ]
    test = [WindowIndex.build(one, window, out) for one, out in zip(shards, held_out, strict=True)]
    for one, index in zip(shards, train, strict=True):
        if not index.num_windows:
            raise DataError(f"{one.path}: dataset {one.name} has no text to train on")
    shares = list(weights) if weights else [float(index.num_windows) for index in train]
    kept = [i for i, index in enumerate(test) if index.num_windows]
    testing = _corpus([test[i] for i in kept], [shares[i] for i in kept], seed) if kept else None
    return _corpus(train, shares, seed), testing


def _corpus(indices: list[WindowIndex], weights: list[float], seed: int) -> Corpus:
    """A corpus of these datasets, whose samples are all their windows."""
    order = SampleOrder(
        seed=seed, sizes=[index.num_windows for index in indices], weights=tuple(weights)
    )
    names = [index.shards.name for index in indices]
    return Corpus(names=names, indices=indices, order=order, window=indices[0].window)


def _held_out(shards: TokenShards, quota: int, seed: int) -> Bool[np.ndarray, " documents"]:
    """Which documents to hold out."""
    count = min(quota, int(shards.num_documents * MAX_HELD_OUT_SHARE))
    key = derive_key(seed, "held-out", shards.name)
    held_out = np.zeros(shards.num_documents, dtype=np.bool_)
    held_out[permute(np.arange(count), shards.num_documents, key)] = True
    return held_out
