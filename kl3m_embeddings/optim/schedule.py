"""The learning rate of a step: a pure function, no object with a hidden counter.

- linear: from start_lr to end_lr over total_steps.
- linear_warmup_cooldown: up to peak_lr, level, and linearly down to end_lr at total_steps.
- exponential: start_lr, times cooldown_factor after every cooldown_steps_per_period steps.
- exponential_warmup_cooldown: start_lr, times warmup_factor after every period of the warm-up;
  constant_steps at the rate reached; then times cooldown_factor from each period on.

Exponential rates never fall below end_lr.
"""

from kl3m_embeddings.config.training import OptimizerConfig


def lr_at(step: int, config: OptimizerConfig) -> float:
    """Learning rate of a step; steps count from 1, and step 0 would have start_lr."""
    match config.scheduler_type:
        case "linear":
            return _between(config.start_lr, config.end_lr, step / config.num_steps)
        case "linear_warmup_cooldown":
            return _linear_warmup_cooldown(step, config)
        case "exponential":
            periods = (step - 1) // config.cooldown_steps_per_period
            return max(config.start_lr * config.cooldown_factor**periods, config.end_lr)
        case "exponential_warmup_cooldown":
            return _exponential_warmup_cooldown(step, config)


def _between(start: float, end: float, fraction: float) -> float:
    """The rate at a fraction of the way, which counts from 0 to 1."""
    fraction = min(max(fraction, 0.0), 1.0)
    return start * (1.0 - fraction) + end * fraction


def _linear_warmup_cooldown(step: int, config: OptimizerConfig) -> float:
    """Up for warmup_steps, level for peak_steps, down for what is left."""
    if step < config.warmup_steps:
        return _between(config.start_lr, config.peak_lr, step / config.warmup_steps)
    level_until = config.warmup_steps + config.peak_steps
    if step <= level_until:
        return config.peak_lr
    cooldown_steps = config.num_steps - level_until
    return _between(config.peak_lr, config.end_lr, (step - level_until) / cooldown_steps)


def _exponential_warmup_cooldown(step: int, config: OptimizerConfig) -> float:
    """A factor for each period of the warm-up and, from the level's end on, of the cool-down."""
    done = step - 1  # steps before this one
    warmup_periods = min(done // config.warmup_steps_per_period, config.warmup_periods)
    rate = config.start_lr * config.warmup_factor**warmup_periods
    level_until = config.warmup_periods * config.warmup_steps_per_period + config.constant_steps
    if done >= level_until:
        # The first cool-down factor comes with the first step after the level.
        periods = 1 + (done - level_until) // config.cooldown_steps_per_period
        rate *= config.cooldown_factor ** min(periods, config.cooldown_periods)
    return max(rate, config.end_lr)
