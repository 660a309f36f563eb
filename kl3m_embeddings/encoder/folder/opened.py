"""A model folder, read."""

from pathlib import Path

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer, load_tokenizer
from kl3m_embeddings.encoder.folder.load import transformer_folder
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules, read_sentence_modules
from kl3m_embeddings.encoder.folder.source import resolve_source


def read_text_files(source: str | Path) -> tuple[Path, SentenceModules, Tokenizer]:
    """A model's folder and all that it has beside the encoder itself; for `source` see `load`.

    Raises:
        ConfigError: It is no model, or lacks a tokenizer.
    """
    folder = resolve_source(source)
    return folder, read_sentence_modules(folder), load_tokenizer(transformer_folder(folder))
