"""How good embeddings are: tasks of MTEB and of plain files, scored by mteb; baselines beside."""
