"""Documents become shards of token ids, near-duplicates left out."""
