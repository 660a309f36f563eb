import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.train.clipping import MIN_KNOWN_NORMS, GradNormWindow

CPU = torch.device("cpu")


def config_of(**settings):
    return OptimizerConfig(total_steps=10, max_grad_norm=0.7, **settings)


def record(window, step, norm):
    """Record a norm; one that is not finite is a skipped step."""
    window.record(
        step,
        StepResult(norm=torch.tensor(norm), skipped=torch.tensor(not math.isfinite(norm))),
    )


def norms_of(count, seed=0):
    return np.random.default_rng(seed).lognormal(size=count).astype(np.float32).tolist()


@given(
    st.floats(0.5, 100.0), st.integers(100, 150), st.integers(100, 400), st.integers(0, 2**32 - 1)
)
def test_the_threshold_is_the_percentile_of_the_last_norms(percentile, size, count, seed):
    config = config_of(max_grad_norm_pct=percentile, max_grad_norm_window=size)
    window = GradNormWindow(config, CPU)
    norms = norms_of(count, seed)
    for step, norm in enumerate(norms, start=1):
        record(window, step, norm)
    expected = np.percentile(np.array(norms[-size:]), percentile)
    assert window.threshold().item() == pytest.approx(expected, rel=1e-5)


def test_before_a_hundred_norms_are_known_the_fixed_one_holds():
    window = GradNormWindow(config_of(), CPU)
    for step, norm in enumerate(norms_of(MIN_KNOWN_NORMS), start=1):
        assert window.threshold() == torch.tensor(0.7)
        record(window, step, norm)
    assert window.threshold().item() == pytest.approx(np.percentile(norms_of(100), 90), rel=1e-5)


def test_without_a_percentile_the_fixed_one_holds_throughout():
    window = GradNormWindow(config_of(max_grad_norm_pct=None), CPU)
    for step in range(1, 300):
        record(window, step, 9.0)
    assert window.threshold() == torch.tensor(0.7)


def test_skipped_steps_do_not_count_and_push_old_norms_out():
    window = GradNormWindow(config_of(max_grad_norm_window=120), CPU)
    norms = norms_of(150)
    for step, norm in enumerate(norms, start=1):
        record(window, step, math.inf if step % 10 == 0 else norm)
    last = [norm for step, norm in enumerate(norms, start=1) if step > 30 and step % 10]
    assert window.threshold().item() == pytest.approx(np.percentile(last, 90), rel=1e-5)
    for step in range(151, 160):
        record(window, step, math.nan)
    assert window.threshold() == torch.tensor(0.7)  # 99 are known now


@pytest.mark.parametrize("cut", [0, 1, 99, 100, 110, 111, 180, 225, 329])
def test_a_window_that_is_saved_and_read_goes_on_bit_for_bit(cut):
    config = config_of(max_grad_norm_window=110, max_grad_norm_pct=50)
    norms = [math.nan if n % 17 == 3 else norm for n, norm in enumerate(norms_of(330))]
    whole, part = GradNormWindow(config, CPU), GradNormWindow(config, CPU)
    for step, norm in enumerate(norms, start=1):
        if step == cut + 1:
            part = GradNormWindow(config, CPU, part.state())
        for window in (whole, part):
            record(window, step, norm)
        assert torch.equal(whole.threshold(), part.threshold())
    assert whole.state() == part.state()


def test_the_state_is_json():
    window = GradNormWindow(config_of(), CPU)
    record(window, 1, 0.1)
    state = window.state()
    assert len(state) == 1000
    assert [norm for norm in state if norm is not None] == [pytest.approx(0.1)]
