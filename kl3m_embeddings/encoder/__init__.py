"""From config.json to an encoder, and from an encoder to vectors."""
