"""Tasks that predict hidden tokens: one file a task, and how tokens are hidden."""
