"""Runs on several ranks of this machine, as `torchrun` starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "train_deepspeed.py"


def launch(*arguments, script=SCRIPT, num_ranks=2, environment=None, wait=True):
    """Start the script on so many ranks; its result, or the running process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(num_ranks), str(script), *map(str, arguments)]
    settings = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        env={**os.environ, **settings, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if not wait:
        return process
    output, errors = process.communicate(timeout=900)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
