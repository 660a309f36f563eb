import time

import pytest
import torch

from kl3m_embeddings.train.phase_timer import PhaseTimer


def test_phases_are_the_times_between_marks_and_repeated_ones_add_up():
    timer = PhaseTimer(torch.device("cpu"))
    start = time.perf_counter()
    timer.mark("start")
    for phase, seconds in [("forward", 0.02), ("backward", 0.01), ("forward", 0.02)]:
        time.sleep(seconds)
        timer.mark(phase)
    whole = time.perf_counter() - start
    phases = timer.read()
    assert list(phases) == ["forward", "backward"]
    assert phases["forward"] >= 0.04
    assert phases["backward"] >= 0.01
    assert sum(phases.values()) == pytest.approx(whole, abs=0.005)
    assert timer.read() == phases


def test_without_marks_there_are_no_phases():
    timer = PhaseTimer(torch.device("cpu"))
    timer.mark("start")
    assert timer.read() == {}


@pytest.mark.gpu
def test_on_a_gpu_the_work_is_timed_not_the_call():
    timer = PhaseTimer(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")
    torch.mm(matrix, matrix)
    torch.cuda.synchronize()
    timer.mark("start")
    start = time.perf_counter()
    for _ in range(50):
        torch.mm(matrix, matrix)
    called = time.perf_counter() - start
    timer.mark("forward")
    assert timer.read()["forward"] > 5 * called
