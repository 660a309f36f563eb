"""How fast a training step is, beside transformers' and the device's limit."""
