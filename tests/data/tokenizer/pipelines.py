"""Folders of tokenizers as others write them, without special tokens or settings."""

import json

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

WORDPIECE_VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "court", "##s", "order", ".", "["]


def wordpiece(folder):
    """A BERT tokenizer's folder."""
    model = models.WordPiece(
        {token: i for i, token in enumerate(WORDPIECE_VOCAB)}, unk_token="[UNK]"
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.save(str(folder / "tokenizer.json"))
    return folder


def unigram(folder):
    """A sentencepiece-like tokenizer with RoBERTa's special tokens."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", "▁court", "s", "▁order", "."]
    backend = tokenizers.Tokenizer(models.Unigram([(token, -2.0) for token in tokens], 3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.save(str(folder / "tokenizer.json"))
    return folder


KINDS = {"wordpiece": wordpiece, "unigram": unigram}


def edit(folder, **parts):
    """Change parts of a tokenizer.json."""
    file = folder / "tokenizer.json"
    pipeline = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(pipeline | parts), encoding="utf-8")
