"""transformers' own networks, made fast."""
