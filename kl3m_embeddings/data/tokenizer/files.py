"""Reads a tokenizer from a `tokenizer.json`, or from what names a folder (`files/source.py`).

- A bare `tokenizer.json` is the pipeline that it says.
- Where settings lie beside it (`tokenizer_config.json`), where it belongs to a model, and where
  there are older files (`vocab.txt`, a sentencepiece model), the pipeline is the one that
  transformers builds: `do_lower_case` and its like overrule the file, and each class has rules of
  its own.

A pipeline begins with lower case where the settings of sentence-transformers ask for that, as it
does there: those of a model, or those that lie beside a tokenizer.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence

from kl3m_embeddings.errors import ConfigError, first_line
from kl3m_embeddings.files.path_kind import utf8_folder, why_not
from kl3m_embeddings.files.source import HUB_FILES, VOCABULARIES, resolve_source
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.messages import quiet_transformers

ROLES = ("cls", "sep", "pad", "mask", "unk")
# Settings of sentence-transformers beside a transformer, of which the first that is there counts:
# today's name; early releases named the file after the transformer.
SENTENCE_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
PROBE = "a text that has some tokens"


@dataclass(frozen=True, kw_only=True)
class FoundTokenizer:
    """A pipeline, and what its files say of it.

    Attributes:
        name: what to call it in messages.
        named_tokens: role (cls, sep, ...) to token string.
        prefix_ids: what its template puts before a text.
        suffix_ids: what its template puts behind a text.
        cuts_left: whether a text that is too long loses its beginning.
        reads_special_tokens: whether a special token's name inside a text stands for the token.
    """

    name: str
    backend: tokenizers.Tokenizer
    named_tokens: Mapping[str, str]
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    cuts_left: bool = False
    reads_special_tokens: bool = True


def find_tokenizer(
    source: str | Path, *, of_model: bool = False, lower: bool | None = None
) -> FoundTokenizer:
    """Read the tokenizer that a path, `package:NAME/SUBFOLDER` or a hub name stands for.

    Args:
        source: as above.
        of_model: whether it is the folder of a model.
        lower: whether a text begins with being made lower case; None: as the settings beside it
            say.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = Path(source)
    if not path.is_file():
        path = resolve_source(source, "tokenizer")
    folder, file = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
    is_whole = path.is_dir() and (of_model or (folder / "tokenizer_config.json").is_file())
    if not file.is_file() and not any(next(folder.glob(one), None) for one in VOCABULARIES):
        raise ConfigError(f"tokenizer {path}: no tokenizer.json in this folder")
    for one in [file, *(one for names in HUB_FILES["tokenizer"] for one in folder.glob(names))]:
        if os.path.lexists(one) and (why := why_not(one, "file")):
            raise ConfigError(f"tokenizer {one}: {why}")
    if is_whole or not file.is_file():
        found = _built_by_transformers(folder)
    else:
        found = FoundTokenizer(
            name=str(file), backend=plain(_read_pipeline(file)), named_tokens=_named_tokens(folder)
        )
    if sentence_settings(folder).get("do_lower_case") if lower is None else lower:
        lower_case(found.backend)
    return found


def sentence_settings(folder: Path) -> dict[str, Any]:
    """The settings of sentence-transformers beside a transformer; none where there is no file."""
    files = (folder / name for name in SENTENCE_SETTINGS)
    return next((read_json_object(file) for file in files if file.is_file()), {})


def plain(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The pipeline, changed in place so that a text's ids depend on the text alone."""
    backend.no_padding()
    backend.no_truncation()
    if getattr(backend.model, "dropout", None) is not None:  # of BPE: other ids at each reading
        backend.model.dropout = None
    return backend


def lower_case(backend: tokenizers.Tokenizer) -> None:
    """Begin with lower case; a pipeline that makes lower case already is left as it is.

    What counts as that is sentence-transformers' rule, by which a sequence with lower case at its
    end is left, too; BERT's normaliser gives the same with lower case before it.
    """
    normalizer = backend.normalizer
    if isinstance(normalizer, BertNormalizer) and normalizer.lowercase:
        return
    is_sequence = isinstance(normalizer, Sequence)
    parts = [normalizer[i] for i in range(len(normalizer))] if is_sequence else [normalizer]
    if not any(isinstance(part, Lowercase) for part in parts):
        backend.normalizer = Sequence([Lowercase(), *([] if normalizer is None else [normalizer])])


def _read_pipeline(file: Path) -> tokenizers.Tokenizer:
    try:
        # not from_file: it takes no name that is no UTF-8
        return tokenizers.Tokenizer.from_buffer(file.read_bytes())
    except Exception as error:  # tokenizers raises plain Exception
        raise ConfigError(
            f"tokenizer {file}: tokenizers {tokenizers.__version__} cannot read it "
            f"({first_line(error)})"
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


def transformers_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - its classes carry no types
    """The tokenizer of transformers' own class for a folder.

    Raises:
        ConfigError: transformers cannot read it.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers(), utf8_folder(folder) as place:
            return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # each class has its own ways to fail, tokenizers' plain ones too
        raise ConfigError(
            f"tokenizer {folder}: transformers cannot read it ({first_line(error)})"
        ) from error


def _built_by_transformers(folder: Path) -> FoundTokenizer:
    """The pipeline of the class that the folder's files ask for."""
    tokenizer = transformers_tokenizer(folder)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"tokenizer {folder}: {type(tokenizer).__name__} is written in Python alone: "
            "only those with a tokenizer.json can be used here"
        )
    backend = plain(tokenizer.backend_tokenizer)
    tokens = {role: getattr(tokenizer, f"{role}_token", None) for role in ROLES}
    named = {role: str(token) for role, token in tokens.items() if token}
    prefix, suffix = _template(backend)
    return FoundTokenizer(
        name=str(folder),
        backend=backend,
        named_tokens={**named, **_named_tokens(folder)},
        prefix_ids=prefix,
        suffix_ids=suffix,
        cuts_left=tokenizer.truncation_side == "left",
        reads_special_tokens=not tokenizer.split_special_tokens,
    )


def _template(backend: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a pipeline puts before and behind a text."""
    ids, framed = (backend.encode(PROBE, add_special_tokens=add).ids for add in (False, True))
    start = next(i for i in range(len(framed)) if framed[i : i + len(ids)] == ids)
    return tuple(framed[:start]), tuple(framed[start + len(ids) :])
