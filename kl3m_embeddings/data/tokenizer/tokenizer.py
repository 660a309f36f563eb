"""One view of every tokenizer: ids without surprises, special tokens found, an export that agrees.

Published tokenizers differ in what they add to a text, on which side they pad and cut, and where
(or whether) they name their special tokens. `load_tokenizer` settles this once, in one of two ways:

- **A tokenizer to train with** frames a text as `[CLS] ids [SEP]`, cuts it on the right, and takes
  what looks like a special token inside a text ("[MASK]" in a manual) for text like any other.
- **A model's own tokenizer** (`of_model`) does what transformers does with it, for the model was
  trained so: its template, its side of cutting, special tokens inside a text and in prompts.

In both, padding and BPE dropout are off, so a text's ids depend on the text alone. Special tokens
come from the caller, the files, or well-known names. `fingerprint` hashes what determines ids, for
shards. `save` writes a folder that other libraries open, where a text becomes what it was here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Bool
from tokenizers.processors import TemplateProcessing

from kl3m_embeddings.data.tokenizer.files import find_tokenizer
from kl3m_embeddings.data.tokenizer.special_tokens import (
    REQUIRED,
    alike,
    missing,
    pipeline_of_documents,
    resolve,
    token_id,
)
from kl3m_embeddings.errors import ConfigError

SPACE = "▁"  # sentencepiece's mark for a space


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A tokenizer with its special tokens resolved; see `load_tokenizer`.

    Attributes:
        name: what to call it in messages.
        backend: the `tokenizers` pipeline, without padding and truncation.
        vocab_size: one more than the highest id, added tokens included.
        fingerprint: SHA-256 of what determines a document's ids; what stands around them and how
            they are cut and padded does not count.
        special_tokens: role (cls, sep, pad, mask, unk) to token; a model's may lack all but pad.
        prefix_ids: stand before a text's ids.
        suffix_ids: stand behind them.
        cuts_left: whether a text that is too long loses its beginning, not its end.
    """

    name: str
    backend: tokenizers.Tokenizer
    vocab_size: int
    fingerprint: str
    special_tokens: Mapping[str, str] = field(hash=False)
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    cuts_left: bool = False

    @property
    def cls_id(self) -> int:
        """Of the token that stands for a text's beginning."""
        return self._special_id("cls")

    @property
    def sep_id(self) -> int:
        """Of the token that ends a text, or a part of one."""
        return self._special_id("sep")

    @property
    def pad_id(self) -> int:
        """Of the token that fills rows."""
        return self._special_id("pad")

    @property
    def mask_id(self) -> int:
        """Of the token that hides another."""
        return self._special_id("mask")

    def _special_id(self, role: str) -> int:
        if role not in self.special_tokens:
            raise ConfigError(missing(self.name, role))
        return token_id(self.backend, self.special_tokens[role])

    @cached_property
    def text_fingerprint(self) -> str:
        """As `fingerprint`, of a text that is embedded, where special tokens may be named.

        A document of a corpus is data: whatever the tokenizer, special tokens are text in it.
        """
        if not self.reads_special_tokens:
            return self.fingerprint
        return f"{_fingerprint(self.backend)}+special"

    @property
    def reads_special_tokens(self) -> bool:
        """Whether a special token's name inside a text stands for the token."""
        return not self.backend.encode_special_tokens

    def for_documents(self) -> "Tokenizer":
        """The same, but for names of special tokens, which are text."""
        return replace(self, backend=pipeline_of_documents(self.backend, self.special_tokens))

    @property
    def num_special(self) -> int:
        """Tokens that stand around a text."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    def encode(self, text: str) -> list[int]:
        """The text's ids, without what stands around them."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def framed(self, ids: Sequence[int], max_length: int | None) -> list[int]:
        """A text's ids with what stands around them, cut to `max_length` in all; None: not cut."""
        if max_length is not None:
            ids = self.cut(ids, max(max_length - self.num_special, 0))
        return [*self.prefix_ids, *ids, *self.suffix_ids]

    def cut(self, ids: Sequence[int], length: int) -> Sequence[int]:
        """So many ids of a text at most, of the end that counts."""
        return ids[max(len(ids) - length, 0) :] if self.cuts_left else ids[:length]

    def special_ids(self, *, of_roles: bool = True) -> Bool[np.ndarray, " vocab"]:
        """True for special tokens, and for ids that no token has.

        Args:
            of_roles: Whether to count a role's token, too, that the pipeline takes for text.
        """
        special = np.ones(self.vocab_size, dtype=bool)
        special[list(self.backend.get_vocab().values())] = False
        added = self.backend.get_added_tokens_decoder()
        special[[index for index, token in added.items() if token.special]] = True
        if of_roles:
            special[[token_id(self.backend, one) for one in self.special_tokens.values()]] = True
        return special

    def newline_ids(self) -> Bool[np.ndarray, " vocab"]:
        """True for tokens whose text contains a line break."""
        return np.array(["\n" in text for text in self._texts()])

    def word_start_ids(self) -> Bool[np.ndarray, " vocab"]:
        """True for tokens that begin a new word: after white space, or with punctuation.

        A text's first token begins a word whatever this says: byte-level tokens carry the space
        before them, and there is none before the first.
        """
        pipeline = json.loads(self.backend.to_str())
        if pipeline["model"]["type"] == "WordPiece":
            prefix = pipeline["model"]["continuing_subword_prefix"]
            return np.array([not token.startswith(prefix) for token in self._tokens()])
        if SPACE in json.dumps(
            [pipeline["pre_tokenizer"], pipeline["decoder"]], ensure_ascii=False
        ):
            return np.array([_starts_word(token) for token in self._tokens()])
        return np.array([_starts_word(text) for text in self._texts()])

    def save(self, folder: Path, model_max_length: int) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.

        `PreTrainedTokenizerFast` is named as the class, whatever class the pipeline came from: it
        takes the pipeline as it is. Beside a deberta-v2 `config.json`, transformers 5 would
        otherwise rebuild a Unigram pipeline from the vocabulary.
        """
        folder.mkdir(parents=True, exist_ok=True)
        exported = tokenizers.Tokenizer.from_str(self.backend.to_str())
        token_of = exported.id_to_token
        before, after = ([token_of(i) for i in ids] for ids in (self.prefix_ids, self.suffix_ids))
        exported.post_processor = TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, "$B:1", *(f"{token}:1" for token in after)],
            special_tokens=[(token_of(i), i) for i in {*self.prefix_ids, *self.suffix_ids}],
        )
        exported.enable_padding(
            direction="right", pad_id=self.pad_id, pad_token=self.special_tokens["pad"]
        )
        (folder / "tokenizer.json").write_text(exported.to_str(pretty=True), encoding="utf-8")
        # what is text to a model's own tokenizer would be a token, if it were named
        is_token = self.special_ids(of_roles=False)
        special_tokens = {
            f"{role}_token": token
            for role, token in self.special_tokens.items()
            if role == "pad" or is_token[token_id(self.backend, token)]
        }
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "padding_side": "right",
            "truncation_side": "left" if self.cuts_left else "right",
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": not self.reads_special_tokens,
            **special_tokens,
        }
        _write_json(folder / "tokenizer_config.json", config)
        _write_json(folder / "special_tokens_map.json", special_tokens)

    def _tokens(self) -> list[str]:
        """Every id's token as the vocabulary spells it."""
        return [self.backend.id_to_token(index) or "" for index in range(self.vocab_size)]

    def _texts(self) -> list[str]:
        """Every id's token as text; bytes that are no whole character read U+FFFD."""
        rows = [[index] for index in range(self.vocab_size)]
        texts: list[str] = self.backend.decode_batch(rows, skip_special_tokens=False)
        return texts


def load_tokenizer(
    source: str | Path,
    special_tokens: Mapping[str, str] | None = None,
    *,
    of_model: bool = False,
    lower: bool | None = None,
) -> Tokenizer:
    """Read a tokenizer from a folder, a `tokenizer.json`, a Python package or the hub.

    Args:
        source: a folder, a file, `package:NAME/SUBFOLDER` or a hub name.
        special_tokens: token strings by role: cls, sep, pad, mask, unk. These overrule the files.
        of_model: whether it is the folder of a model, whose texts are read as transformers does.
        lower: whether texts become lower case first; None: as the settings beside it say.

    Raises:
        ConfigError: nothing readable there, or a special token is missing.
    """
    found = find_tokenizer(source, of_model=of_model, lower=lower)
    backend = found.backend
    backend.encode_special_tokens = not found.reads_special_tokens
    required = ("pad",) if of_model else REQUIRED
    tokens = resolve(found, dict(special_tokens or {}), required)
    of_documents = pipeline_of_documents(backend, tokens)
    if of_model:
        prefix, suffix = found.prefix_ids, found.suffix_ids
    else:
        backend = of_documents
        prefix, suffix = ((token_id(backend, tokens[role]),) for role in ("cls", "sep"))
    return Tokenizer(
        name=found.name,
        backend=backend,
        vocab_size=max(backend.get_vocab().values()) + 1,
        fingerprint=_fingerprint(of_documents),
        special_tokens=tokens,
        prefix_ids=prefix,
        suffix_ids=suffix,
        cuts_left=of_model and found.cuts_left,
    )


def check_masking(tokenizer: Tokenizer) -> None:
    """Raise unless it has what tasks that hide tokens need: `[CLS] ids [SEP]`, and a mask."""
    special = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id]
    if len(set(special)) < len(special):
        raise ConfigError(alike(tokenizer.name, tokenizer.special_tokens))
    if (tokenizer.prefix_ids, tokenizer.suffix_ids) != ((special[0],), (special[1],)):
        raise ConfigError(
            f"{tokenizer.name}: its texts do not stand between {tokenizer.special_tokens['cls']} "
            f"and {tokenizer.special_tokens['sep']}, as tasks need that hide tokens: "
            "train it with embedding tasks, or name it as `tokenizer` to have them so"
        )


def _fingerprint(backend: tokenizers.Tokenizer) -> str:
    """SHA-256 of the parts of the pipeline that determine ids, in a canonical form."""
    pipeline = json.loads(backend.to_str())
    parts = ("normalizer", "pre_tokenizer", "model", "added_tokens")
    canonical = json.dumps(
        {part: _without_defaults(pipeline[part]) for part in parts}, sort_keys=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_defaults(value: object) -> object:
    """Drop None and False: releases of `tokenizers` add such fields, and ids do not change."""
    if isinstance(value, dict):
        return {
            key: _without_defaults(item)
            for key, item in value.items()
            if item is not None and item is not False
        }
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    return value


def _starts_word(text: str) -> bool:
    """Whether a token begins with a space or punctuation; a broken character (U+FFFD) does not."""
    return text[:1] not in ("", "\ufffd") and not text[0].isalnum()


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
