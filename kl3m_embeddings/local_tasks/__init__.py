"""Local tasks: folders with a `task.json` and plain files, which embeddings are scored on."""
