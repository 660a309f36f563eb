"""One view of every tokenizer: ids without surprises, special tokens found, an export that agrees.

Published tokenizers differ in what they add to a text, on which side they pad, and where (or
whether) they name their special tokens. `load_tokenizer` settles this once:

1. The pipeline is read from a folder, a bare `tokenizer.json` or a hub name. Padding, truncation
   and BPE dropout are off, so a text's ids depend on the text alone. What looks like a special
   token inside a text ("[MASK]" in a manual) is text like any other.
2. Special tokens come from the caller, else from `special_tokens_map.json`, else from
   `tokenizer_config.json`, else from their well-known names.
3. `fingerprint` hashes what determines ids. Shards record it, so a wrong tokenizer is noticed.
4. `save` writes a folder that transformers and sentence-transformers open, and in which a text
   becomes `[CLS] ids [SEP]`, exactly as in training.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Bool
from tokenizers.processors import TemplateProcessing

from kl3m_embeddings.data.tokenizer.files import find_tokenizer
from kl3m_embeddings.errors import ConfigError

WELL_KNOWN = {
    "cls": ("[CLS]", "<|cls|>", "<cls>", "<s>"),
    "sep": ("[SEP]", "<|sep|>", "<sep>", "</s>"),
    "pad": ("[PAD]", "<|pad|>", "<pad>"),
    "mask": ("[MASK]", "<|mask|>", "<mask>"),
    "unk": ("[UNK]", "<|unk|>", "<unk>"),
}
NUM_SPECIAL = 2  # [CLS] ... [SEP]
REQUIRED = ("cls", "sep", "pad", "mask")
SPACE = "▁"  # sentencepiece's mark for a space


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with its special tokens resolved; see `load_tokenizer`.

    Attributes:
        backend: the `tokenizers` pipeline, without padding and truncation.
        vocab_size: one more than the highest id, added tokens included.
        fingerprint: SHA-256 of what determines ids; padding, truncation and templates do not count.
    """

    backend: tokenizers.Tokenizer
    vocab_size: int
    fingerprint: str
    cls_token: str
    sep_token: str
    pad_token: str
    mask_token: str
    unk_token: str | None
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    unk_id: int | None

    def encode(self, text: str) -> list[int]:
        """The text's ids, without special tokens."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def special_ids(self) -> Bool[np.ndarray, " vocab"]:
        """True for special tokens, and for ids that no token has."""
        special = np.ones(self.vocab_size, dtype=bool)
        special[list(self.backend.get_vocab().values())] = False
        added = self.backend.get_added_tokens_decoder()
        special[[index for index, token in added.items() if token.special]] = True
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

        `PreTrainedTokenizerFast` is named as the class: beside a deberta-v2 `config.json`,
        transformers 5 would otherwise rebuild a Unigram pipeline from the vocabulary.
        """
        folder.mkdir(parents=True, exist_ok=True)
        exported = tokenizers.Tokenizer.from_str(self.backend.to_str())
        exported.post_processor = TemplateProcessing(
            single=f"{self.cls_token} $A {self.sep_token}",
            pair=f"{self.cls_token} $A {self.sep_token} $B:1 {self.sep_token}:1",
            special_tokens=[(self.cls_token, self.cls_id), (self.sep_token, self.sep_id)],
        )
        exported.enable_padding(direction="right", pad_id=self.pad_id, pad_token=self.pad_token)
        (folder / "tokenizer.json").write_text(exported.to_str(pretty=True), encoding="utf-8")
        special_tokens = {
            f"{role}_token": getattr(self, f"{role}_token")
            for role in WELL_KNOWN
            if getattr(self, f"{role}_token") is not None
        }
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
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
    source: str | Path, special_tokens: Mapping[str, str] | None = None
) -> Tokenizer:
    """Read a tokenizer from a folder, a `tokenizer.json`, a Python package or the hub.

    Args:
        source: a folder, a file, `package:NAME/SUBFOLDER` or a hub name.
        special_tokens: token strings by role: cls, sep, pad, mask, unk. These overrule the files.

    Raises:
        ConfigError: nothing readable there, or a special token is missing.
    """
    found = find_tokenizer(source)
    backend = found.backend
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True
    if getattr(backend.model, "dropout", None) is not None:
        backend.model.dropout = None
    tokens = _resolve(backend, found.name, dict(special_tokens or {}), found.named_tokens)
    # a special token may sit in the vocabulary as an ordinary one: mark it, its id stays
    backend.add_special_tokens([token for token in tokens.values() if token is not None])
    ids = {
        role: None if token is None else backend.token_to_id(token)
        for role, token in tokens.items()
    }
    return Tokenizer(
        backend=backend,
        vocab_size=max(backend.get_vocab().values()) + 1,
        fingerprint=_fingerprint(backend),
        **{f"{role}_token": token for role, token in tokens.items()},  # type: ignore[arg-type]
        **{f"{role}_id": index for role, index in ids.items()},  # type: ignore[arg-type]
    )


def _resolve(
    backend: tokenizers.Tokenizer,
    name: str,
    explicit: Mapping[str, str],
    named: Mapping[str, str],
) -> dict[str, str | None]:
    """Find the token of every role, or say which are missing and what to do."""
    errors = [
        f"{name}: special token {role}={token!r}: "
        + (
            "not in the vocabulary"
            if role in WELL_KNOWN
            else f"choose from {', '.join(WELL_KNOWN)}"
        )
        for role, token in explicit.items()
        if role not in WELL_KNOWN or backend.token_to_id(token) is None
    ]
    tokens: dict[str, str | None] = {}
    for role, well_known in WELL_KNOWN.items():
        candidates = (explicit.get(role), named.get(role), *well_known)
        tokens[role] = next(
            (token for token in candidates if token and backend.token_to_id(token) is not None),
            None,
        )
        if tokens[role] is None and role in REQUIRED:
            errors.append(
                f"{name}: no {role} token; name it as {role}_token in special_tokens_map.json "
                "beside the tokenizer"
            )
    chosen = [token for role in REQUIRED if (token := tokens[role])]
    if len(set(chosen)) < len(chosen):
        errors.append(f"{name}: cls, sep, pad and mask must differ, they are {', '.join(chosen)}")
    if errors:
        raise ConfigError("\n".join(errors))
    return tokens


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
