"""Reads a tokenizer from a `tokenizer.json`, or from what names a folder (`files/source.py`).

A folder without `tokenizer.json` (older checkpoints hold `vocab.txt` or a sentencepiece model) is
converted by transformers, which is imported for that alone. A pipeline begins with lower case where
the settings of sentence-transformers beside it ask for that, as it does there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers.normalizers import Lowercase, Sequence

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.source import VOCABULARIES, resolve_source
from kl3m_embeddings.files.strict_json import read_json_object

ROLES = ("cls", "sep", "pad", "mask", "unk")
SENTENCE_SETTINGS = "sentence_*_config.json"


@dataclass(frozen=True)
class FoundTokenizer:
    """A pipeline, and the special tokens that the files beside it name.

    Attributes:
        name: what to call it in messages.
        named_tokens: role (cls, sep, ...) to token string.
    """

    name: str
    backend: tokenizers.Tokenizer
    named_tokens: Mapping[str, str]


def find_tokenizer(source: str | Path) -> FoundTokenizer:
    """Read the tokenizer that a path, `package:NAME/SUBFOLDER` or a hub name stands for.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = Path(source)
    if not path.is_file():
        path = resolve_source(source, "tokenizer")
    folder, file = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
    if file.is_file():
        found = FoundTokenizer(str(file), _read_pipeline(file), _named_tokens(folder))
    elif any(next(folder.glob(pattern), None) for pattern in VOCABULARIES):
        found = _converted(folder)
    else:
        raise ConfigError(f"tokenizer {path}: no tokenizer.json in this folder")
    if any(read_json_object(one).get("do_lower_case") for one in folder.glob(SENTENCE_SETTINGS)):
        _lower_case(found.backend)
    return found


def _lower_case(backend: tokenizers.Tokenizer) -> None:
    """Begin with lower case; a pipeline that makes lower case already is left as it is."""
    normalizer = backend.normalizer
    settings = "" if normalizer is None else json.dumps(json.loads(backend.to_str())["normalizer"])
    if '"Lowercase"' not in settings and '"lowercase": true' not in settings:
        rest = [] if normalizer is None else [normalizer]
        backend.normalizer = Sequence([Lowercase(), *rest])


def _read_pipeline(file: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        message = str(error).splitlines()[0]
        raise ConfigError(
            f"tokenizer {file}: tokenizers {tokenizers.__version__} cannot read it ({message})"
        ) from error


def _named_tokens(folder: Path) -> dict[str, str]:
    """The special tokens named in a folder; special_tokens_map.json comes first."""
    config, special_tokens_map = (
        read_json_object(path) if path.is_file() else {}
        for path in (folder / "tokenizer_config.json", folder / "special_tokens_map.json")
    )
    named = {}
    for role in ROLES:
        token = special_tokens_map.get(f"{role}_token") or config.get(f"{role}_token")
        if isinstance(token, dict):  # an AddedToken, spelled out
            token = token.get("content")
        if isinstance(token, str):
            named[role] = token
    return named


def _converted(folder: Path) -> FoundTokenizer:
    """Let transformers build a pipeline from older vocabulary files."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError, KeyError) as error:
        message = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"tokenizer {folder}: no tokenizer.json, and transformers cannot convert it ({message})"
        ) from error
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    tokens = {role: getattr(tokenizer, f"{role}_token", None) for role in ROLES}
    named_tokens = {role: str(token) for role, token in tokens.items() if token}
    return FoundTokenizer(str(folder), backend, named_tokens)
