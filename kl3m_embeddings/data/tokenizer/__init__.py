"""The tokenizer: trained, found, read, exported."""
