"""Our DeBERTa-v2 and v3: transformers' mathematics and parameter names, in less time."""
