"""The training loop, checkpoints, logs and evaluation."""
