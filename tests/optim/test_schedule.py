from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.optim.schedule import lr_at

rates = st.floats(1e-8, 1.0)
steps = st.integers(0, 300)


def rates_of(config):
    return [lr_at(step, config) for step in range(1, config.num_steps + 1)]


@given(rates, rates, st.integers(1, 500))
def test_linear_goes_evenly_from_start_to_end(start, end, total):
    config = OptimizerConfig(scheduler_type="linear", start_lr=start, end_lr=end, total_steps=total)
    assert lr_at(0, config) == start
    assert lr_at(total, config) == pytest.approx(end)
    assert lr_at(total + 5, config) == pytest.approx(end)
    step = (end - start) / total
    values = [start, *rates_of(config)]
    for before, after in pairwise(values):
        assert after - before == pytest.approx(step, rel=1e-6, abs=1e-9)


@given(rates, rates, rates, steps, steps, st.integers(1, 300))
def test_warmup_peak_and_cooldown_meet_at_the_corners(start, peak, end, warmup, level, cooldown):
    config = OptimizerConfig(
        start_lr=start,
        peak_lr=peak,
        end_lr=end,
        warmup_steps=warmup,
        peak_steps=level,
        total_steps=warmup + level + cooldown,
    )
    if warmup:
        assert lr_at(0, config) == start
    assert lr_at(warmup, config) == pytest.approx(peak)
    assert lr_at(warmup + level, config) == pytest.approx(peak)
    assert lr_at(warmup + level + cooldown, config) == pytest.approx(end)
    values = rates_of(config)
    largest = max(abs(peak - start) / max(warmup, 1), abs(end - peak) / cooldown)
    for before, after in pairwise(values):
        assert abs(after - before) <= largest * (1 + 1e-6) + 1e-12
    low, high = min(start, peak, end), max(start, peak, end)
    assert all(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in values)


@given(st.integers(1, 100), st.integers(0, 100), st.integers(1, 200))
def test_a_short_run_is_cut_off_the_long_one(warmup, level, total):
    """total_steps below warm-up + peak cuts the schedule; it does not squeeze it."""
    assume(total <= warmup + level)
    settings = {"warmup_steps": warmup, "peak_steps": level}
    short = OptimizerConfig(**settings, total_steps=total)
    long = OptimizerConfig(**settings, total_steps=warmup + level + 50)
    assert rates_of(short) == rates_of(long)[:total]


def test_the_published_schedule():
    config = OptimizerConfig(
        start_lr=1e-5, peak_lr=2e-4, end_lr=1e-4, warmup_steps=1000, peak_steps=9000,
        total_steps=200_000,
    )  # fmt: skip
    at = {
        1: 1e-5 + 1.9e-4 / 1000,
        500: 1.05e-4,
        1000: 2e-4,
        5000: 2e-4,
        10_000: 2e-4,
        105_000: 1.5e-4,
        200_000: 1e-4,
    }
    assert {step: lr_at(step, config) for step in at} == pytest.approx(at)


@given(rates, st.floats(0.1, 0.99), st.integers(1, 50), st.integers(1, 400))
def test_exponential_multiplies_once_a_period(start, factor, period, total):
    config = OptimizerConfig(
        scheduler_type="exponential",
        start_lr=start,
        end_lr=0.0,
        cooldown_factor=factor,
        cooldown_steps_per_period=period,
        total_steps=total,
    )
    for step, value in enumerate(rates_of(config)):
        assert value == pytest.approx(start * factor ** (step // period))


EXPONENTIAL = OptimizerConfig(
    scheduler_type="exponential_warmup_cooldown",
    start_lr=1.0,
    end_lr=0.1,
    warmup_factor=2.0,
    warmup_steps_per_period=3,
    warmup_periods=2,
    constant_steps=4,
    cooldown_factor=0.5,
    cooldown_steps_per_period=2,
    cooldown_periods=6,
)


def test_exponential_warmup_and_cooldown_step_by_step():
    warmup = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    level = [4.0] * 4
    cooldown = [2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1, 0.1]
    assert EXPONENTIAL.num_steps == len(warmup + level + cooldown)
    assert rates_of(EXPONENTIAL) == pytest.approx(warmup + level + cooldown)


@given(st.integers(1, 22), st.integers(23, 60))
def test_exponential_runs_are_cut_or_go_on_at_the_last_rate(short, long):
    cut, longer = (EXPONENTIAL.model_copy(update={"total_steps": n}) for n in (short, long))
    assert rates_of(cut) == rates_of(EXPONENTIAL)[:short]
    assert rates_of(longer)[22:] == [rates_of(EXPONENTIAL)[-1]] * (long - 22)


@pytest.mark.parametrize("kind", ["exponential", "exponential_warmup_cooldown"])
def test_no_exponential_rate_falls_below_the_end(kind):
    config = EXPONENTIAL.model_copy(update={"scheduler_type": kind, "total_steps": 500})
    assert min(rates_of(config)) == 0.1


@given(st.integers(1, 30), st.integers(0, 10), st.integers(31, 80))
def test_a_longer_run_keeps_the_rates_before_its_cooldown(warmup, level, total):
    """What a resumed run with more steps can count on."""
    settings = {"warmup_steps": warmup, "peak_steps": level}
    one, other = (
        OptimizerConfig(**settings, total_steps=warmup + level + n) for n in (total, 2 * total)
    )
    assert rates_of(one)[: warmup + level] == rates_of(other)[: warmup + level]
