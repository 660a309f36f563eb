"""Forward, backward, step, save, load: the one place that knows how many devices there are."""
