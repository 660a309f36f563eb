"""Tasks that compare the vectors of texts: one file a task, and what they share."""
