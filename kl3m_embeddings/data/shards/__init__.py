"""Documents become shards of token ids, near-duplicates left out."""

from kl3m_embeddings.data.shards.token_shards import TokenShards

__all__ = ["TokenShards"]
