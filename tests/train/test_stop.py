import os
import signal
import subprocess
import sys

import pytest

from kl3m_embeddings.train.stop import stop_request


@pytest.fixture
def _with_a_terminal():
    """Not under `nohup`, which the tests, too, may have been started by."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_with_a_terminal")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_the_first_signal_only_asks(number, code):
    before = signal.getsignal(number)
    with stop_request() as stop:
        assert not stop
        assert stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop
        assert stop.exit_code == code
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_exits_now(number, code):
    program = (
        "import os, sys\n"
        "from kl3m_embeddings.train.stop import stop_request\n"
        "with stop_request():\n"
        f"    os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
        "    print('asked', flush=True)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == code
    assert done.stdout == b"asked\n"


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), stop_request():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_under_nohup_a_vanished_terminal_stays_without_effect():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_request() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)
