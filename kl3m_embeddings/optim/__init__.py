"""Parameter groups, optimizers and the learning rate of a step."""
