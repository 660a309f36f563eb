"""What is measured every `steps_per_eval`: held-out text and pairs, small tasks, spectra.

Nothing here touches torch's random numbers, and training does not depend on any of it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from kl3m_embeddings.data.batch import Batch, BatchInfo
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.encoder.encode import batches_by_length
from kl3m_embeddings.engine.base import Engine
from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from kl3m_embeddings.evaluation.held_out_text import TextEvaluation
from kl3m_embeddings.evaluation.local_task_probe import LocalTaskProbe
from kl3m_embeddings.tasks.base import framed

BATCH_TOKENS = 8192
# the matrices whose spectra are followed: the wide projection of each feed-forward layer
SPECTRUM_NAMES = (
    "intermediate.dense.weight",
    "mlp.Wi.weight",  # ModernBERT
    "ffn.lin1.weight",  # DistilBERT
    ".ffn.weight",  # ALBERT
)


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates an engine's weights, always on the same texts."""

    text: TextEvaluation | None
    pairs: Sequence[PairEvaluation]
    tokenizer: Tokenizer
    seq_len: int
    """Tokens of a text of a pair, special ones included."""
    dims: Sequence[int] = ()
    """Sizes that embeddings are also cut to."""
    probes: Sequence[LocalTaskProbe] = ()
    """Small tasks, scored at full size and at `dims`."""
    best_metric: str | None = None
    """The field that `score` looks at, the highest wins; None: see there."""

    def evaluate(self, engine: Engine, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        """One row of eval.jsonl, less its step; None if `stopped` turned true meanwhile.

        `eval_time` is the seconds of all of it; `text_time`, `pairs_time` and `tasks_time` are
        parts of that.
        """
        row: dict[str, Any] = {}
        times: dict[str, float] = {}
        started = part_started = time.perf_counter()
        for name, part in self._parts(engine, stopped):
            if part is None:
                return None
            row |= part
            # vectors and losses are on the host by now: its clock is right for any device
            now = time.perf_counter()
            times[f"{name}_time"] = times.get(f"{name}_time", 0.0) + now - part_started
            part_started = now
        row |= spectra(engine.weights())
        return row | times | {"eval_time": time.perf_counter() - started}

    def _parts(
        self, engine: Engine, stopped: Callable[[], bool]
    ) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        if self.text is not None:
            yield "text", self.text.evaluate(engine, stopped)
        for one in self.pairs:

            def embed(ids: Int64[np.ndarray, " texts"], pairs: PairSet = one.pairs) -> Any:  # noqa: ANN401
                lengths = pairs.text_lengths[ids]
                return self._embed(
                    engine,
                    lengths,
                    lambda rows, longest: pairs.text_tokens(
                        ids[rows], longest, cuts_left=self.tokenizer.cuts_left
                    ),
                    stopped,
                )

            yield "pairs", one.evaluate(embed, embed, self.dims)
        for probe in self.probes:

            def embed_ids(texts: Sequence[Sequence[int]]) -> Any:  # noqa: ANN401
                lengths = np.array([len(text) for text in texts])
                return self._embed(
                    engine,
                    lengths,
                    lambda rows, longest: padded(
                        [self.tokenizer.cut(texts[row], longest) for row in rows]
                    ),
                    stopped,
                )

            yield "tasks", probe.evaluate(embed_ids, self.dims)

    def _embed(
        self,
        engine: Engine,
        lengths: Int64[np.ndarray, " texts"],
        tokens_of: Callable[
            [list[int], int],
            tuple[Int64[np.ndarray, "rows longest"], Int64[np.ndarray, " rows"]],
        ],
        stopped: Callable[[], bool],
    ) -> Float32[np.ndarray, "texts dim"] | None:
        """The vectors of texts.

        Args:
            engine: computes them.
            lengths: of the texts, in tokens, before they are cut to `seq_len`.
            tokens_of: gives the tokens of some of them, cut to a length and padded, and how many
                each has.
            stopped: ends it.
        """
        num_special = self.tokenizer.num_special
        lengths = np.minimum(lengths, self.seq_len - num_special)
        vectors: Float32[np.ndarray, "texts dim"] | None = None
        for rows in batches_by_length((lengths + num_special).tolist(), BATCH_TOKENS):
            if stopped():
                return None
            batch = self._batch(*tokens_of(rows, int(lengths[rows].max())))
            embeddings = engine.forward(batch, grad=False).embeddings
            assert embeddings is not None
            if vectors is None:
                vectors = np.empty((len(lengths), embeddings.shape[1]), dtype=np.float32)
            vectors[rows] = embeddings.cpu().numpy()
        return vectors

    def _batch(
        self, tokens: Int64[np.ndarray, "rows longest"], lengths: Int64[np.ndarray, " rows"]
    ) -> Batch:
        row_length = tokens.shape[1] + self.tokenizer.num_special
        input_ids, attention_mask = framed(self.tokenizer, tokens, lengths, row_length)
        return Batch(
            input_ids=torch.from_numpy(input_ids),
            attention_mask=torch.from_numpy(attention_mask),
            info=BatchInfo(task="eval", samples_by_dataset={}, tokens_by_dataset={}, documents={}),
        )

    def headline(self, row: Mapping[str, Any]) -> float | None:
        """What the progress bar shows: the mean loss, or the first set's or task's main metric."""
        fields = [*(one.main_metric for one in self.pairs), *(one.field for one in self.probes)]
        value: float | None = row["mean"] if self.text is not None else row.get(fields[0])
        return value

    def score(self, row: Mapping[str, Any]) -> float | None:
        """How good the evaluation is: `best_metric`, or else the headline; higher is better."""
        if self.best_metric is not None:
            return row.get(self.best_metric)
        headline = self.headline(row)
        return -headline if headline is not None and self.text is not None else headline


def padded(
    texts: Sequence[Sequence[int]],
) -> tuple[Int64[np.ndarray, "rows longest"], Int64[np.ndarray, " rows"]]:
    """Token ids, padded with zeros to the longest text, and how many each text has."""
    lengths = np.array([len(text) for text in texts])
    tokens = np.zeros((len(texts), lengths.max()), dtype=np.int64)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return tokens, lengths


def spectra(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest singular value over the mean and the median one, averaged over the layers."""
    values = [
        torch.linalg.svdvals(weight.float())
        for name, weight in weights.items()
        if name.endswith(SPECTRUM_NAMES) and weight.isfinite().all()
    ]
    if not values:
        return {}
    mean = torch.stack([value[0] / value.mean() for value in values]).mean()
    median = torch.stack([value[0] / value.median() for value in values]).mean()
    return {"svd_mean_ratio_1": float(mean), "svd_median_ratio_1": float(median)}
