"""The tokenizer: trained, found, read, exported."""

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer

__all__ = ["load_tokenizer"]
