"""Masked language modelling of rows that hold several short documents.

With rows of 8 and the documents `a b`, `c` and `d e f`, packed as two and one:

    [CLS] a b [SEP] [CLS] c [SEP] .        bounds (0, 4), (4, 7)
    [CLS] d e f [SEP] . . .                bounds (8, 13)

Bounds count through the flattened rows, and are filled up with (0, 0) to a fixed number. Attention
stays within them (kernels/sequences.py), so that a document sees no other.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.tasks.base import TextSource, assemble, framed
from kl3m_embeddings.tasks.masked.masking import mask_tokens, max_budget


def packed_batch(source: TextSource, first_sample: int, count: int, options: MlmOptions) -> Batch:
    """Rows of documents, each framed, with `mask_rate` of a row's tokens to predict.

    First each document is framed in a row of its own, (documents, max_length); then its tokens go
    to their flat positions among (rows, max_length).
    """
    rows = source.packs.rows(first_sample, count)
    windows = source.corpus.read(rows.spans, source.corpus.window)
    ids, mask = framed(source.tokenizer, windows.tokens, windows.lengths, source.max_length)
    sizes = windows.lengths + source.tokenizer.num_special
    starts = rows.row_of * source.max_length + offsets_in_rows(sizes, rows.row_of)
    is_token = mask.astype(bool)
    positions = (starts[:, None] + np.arange(source.max_length))[is_token]

    input_ids = np.full((count, source.max_length), source.tokenizer.pad_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    input_ids.flat[positions], attention_mask.flat[positions] = ids[is_token], 1
    maskable = attention_mask.astype(bool)
    maskable.flat[starts] = maskable.flat[starts + sizes - 1] = False  # [CLS] and [SEP]
    corrupted, labels = mask_tokens(source, input_ids, maskable, first_sample, options)
    batch = assemble(
        source,
        windows,
        task="mlm",
        input_ids=corrupted,
        attention_mask=attention_mask,
        labels=labels,
        targets_per_sample=max_budget(source.corpus.window, options.mask_rate),
        row_datasets=rows.datasets,
    )
    bounds = np.zeros((count * source.packs.max_windows, 2), dtype=np.int64)
    bounds[: len(starts)] = np.stack([starts, starts + sizes], axis=1)
    return replace(batch, bounds=torch.from_numpy(bounds))


def offsets_in_rows(
    sizes: Int64[np.ndarray, " documents"], row_of: Int64[np.ndarray, " documents"]
) -> Int64[np.ndarray, " documents"]:
    """Where each document begins in its row; documents come row after row.

    Sizes 4, 3 and 5 in the rows 0, 0 and 1 begin at 0, 4 and 0.
    """
    ends = np.cumsum(sizes)
    firsts = np.flatnonzero(np.diff(row_of, prepend=-1))  # the first document of each row
    before_row = np.concatenate([[0], ends[firsts[1:] - 1]])
    num_documents = np.diff(firsts, append=len(sizes))
    offsets: np.ndarray = ends - sizes - np.repeat(before_row, num_documents)
    return offsets
