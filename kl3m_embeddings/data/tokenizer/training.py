"""Trains a byte-level BPE tokenizer on text.

Byte-level BPE (Sennrich et al. 2016, https://aclanthology.org/P16-1162; on bytes as in GPT-2) has a
token for each of the 256 bytes, so no text has an unknown token. Special tokens come first, in the
order of `SPECIAL_TOKENS`, then the bytes, then the merges in order of frequency.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer, load_tokenizer
from kl3m_embeddings.errors import ConfigError, DataError

SPECIAL_TOKENS = {
    "cls": "<|cls|>",
    "sep": "<|sep|>",
    "pad": "<|pad|>",
    "mask": "<|mask|>",
    "unk": "<|unk|>",
}
NUM_BYTES = 256


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    out: Path,
    *,
    min_frequency: int = 2,
    model_max_length: int = 512,
) -> Tokenizer:
    """Train a tokenizer, write its folder and load it from there.

    Args:
        texts: read once, as a stream.
        vocab_size: exactly this many ids, special tokens included.
        out: the folder.
        min_frequency: a merge must occur so often.
        model_max_length: what the exported folder tells transformers.

    Raises:
        ConfigError: the vocabulary has no room for special tokens and bytes.
        DataError: the texts do not give that many tokens.
    """
    smallest = len(SPECIAL_TOKENS) + NUM_BYTES
    if vocab_size < smallest:
        raise ConfigError(
            f"--vocab-size {vocab_size}: must be {smallest} or more, for bytes and special tokens"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    # the regex splits words and numbers from each other, a space going with the word after it
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    found = backend.get_vocab_size()
    if found < vocab_size:
        raise DataError(
            f"the texts give {found:,} tokens only, not {vocab_size:,}; "
            "give more text, or a lower --vocab-size or --min-frequency"
        )
    out.mkdir(parents=True, exist_ok=True)
    backend.save(str(out / "tokenizer.json"))
    tokenizer = load_tokenizer(out, SPECIAL_TOKENS)
    tokenizer.save(out, model_max_length)
    return tokenizer


def limit_texts(texts: Iterable[str], limit_mb: float | None) -> Iterator[str]:
    """The texts up to about so many MB; None: all of them."""
    num_bytes = 0.0
    for text in texts:
        if limit_mb is not None and num_bytes >= limit_mb * 1e6:
            return
        num_bytes += len(text.encode())
        yield text
