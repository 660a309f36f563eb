"""What is measured while training: held-out text, held-out pairs, the probe of local tasks."""
