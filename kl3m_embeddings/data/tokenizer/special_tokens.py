"""The special tokens of a tokenizer by role, as the caller, its files, or else custom name them."""

from collections.abc import Mapping, Sequence

import tokenizers

from kl3m_embeddings.data.tokenizer.files import FoundTokenizer
from kl3m_embeddings.errors import ConfigError

WELL_KNOWN = {
    "cls": ("[CLS]", "<|cls|>", "<cls>", "<s>"),
    "sep": ("[SEP]", "<|sep|>", "<sep>", "</s>"),
    "pad": ("[PAD]", "<|pad|>", "<pad>"),
    "mask": ("[MASK]", "<|mask|>", "<mask>"),
    "unk": ("[UNK]", "<|unk|>", "<unk>"),
}
REQUIRED = ("cls", "sep", "pad", "mask")


def resolve(
    found: FoundTokenizer, explicit: Mapping[str, str], required: Sequence[str]
) -> dict[str, str]:
    """Find the token of every role, or say which are missing and what to do."""
    name, backend, named = found.name, found.backend, found.named_tokens
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
    tokens: dict[str, str] = {}
    for role, well_known in WELL_KNOWN.items():
        candidates = (explicit.get(role), named.get(role), *well_known)
        known = (token for token in candidates if token and backend.token_to_id(token) is not None)
        if (token := next(known, None)) is not None:
            tokens[role] = token
        elif role in required:
            errors.append(missing(name, role))
    chosen = [tokens[role] for role in required if role in tokens]
    if len(set(chosen)) < len(chosen):
        errors.append(alike(name, tokens))
    if errors:
        raise ConfigError("\n".join(errors))
    return tokens


def pipeline_of_documents(
    backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str]
) -> tokenizers.Tokenizer:
    """A copy to which special tokens are text.

    One may sit in the vocabulary as an ordinary token: it is marked, its id stays. A model's own
    pipeline is not marked so: its tokens would lose how they take the spaces around them (a
    RoBERTa's mask takes the one before it), and what is text to transformers would be a token.
    """
    copied = tokenizers.Tokenizer.from_str(backend.to_str())
    copied.add_special_tokens([*special_tokens.values()])
    copied.encode_special_tokens = True
    return copied


def missing(name: str, role: str) -> str:
    """What is said of a special token that there is none of."""
    return (
        f"{name}: no {role} token; name it as {role}_token in special_tokens_map.json "
        "beside the tokenizer"
    )


def alike(name: str, tokens: Mapping[str, str]) -> str:
    """What is said of special tokens of which two are one."""
    chosen = ", ".join(tokens[role] for role in REQUIRED if role in tokens)
    return f"{name}: cls, sep, pad and mask must differ, they are {chosen}"


def token_id(backend: tokenizers.Tokenizer, token: str) -> int:
    """The id of a token that is in the vocabulary."""
    index = backend.token_to_id(token)
    assert index is not None
    return index
