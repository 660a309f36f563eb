"""Model folders: from config.json, weights and modules to an encoder, and back."""
