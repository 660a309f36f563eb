"""Runs in child processes, which share this process's imports."""

import os

from kl3m_embeddings.commands.train import main


def run_forked(*arguments, fault=None, prepare=None):
    """Train in a child process; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        if fault:
            os.environ["KL3M_FAULT"] = fault
        if prepare:
            prepare()
        os._exit(main([*map(str, arguments), "--quiet"]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
