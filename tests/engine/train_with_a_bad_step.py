"""As train_folders.py, but in the third step rank 1's loss is not a number.

LAST_BAD_STEP: nor is it in the steps after that, up to this one.
"""

import os
import sys

from kl3m_embeddings.commands.train_deepspeed import main
from kl3m_embeddings.engine.deepspeed import DeepSpeedEngine

BAD_STEP, BAD_RANK = 3, 1
LAST_BAD_STEP = int(os.environ.get("LAST_BAD_STEP", BAD_STEP))


class Spoilt(DeepSpeedEngine):
    """Counts steps, and spoils one."""

    num_steps = 0

    def backward(self, loss, *, last):
        is_bad = BAD_STEP <= self.num_steps + 1 <= LAST_BAD_STEP and self.ranks.rank == BAD_RANK
        super().backward(loss * float("nan") if is_bad else loss, last=last)

    def step(self, lr, max_norm):
        self.num_steps += 1
        return super().step(lr, max_norm)


if __name__ == "__main__":
    import kl3m_embeddings.engine.deepspeed as module

    module.DeepSpeedEngine = Spoilt
    for folder in sys.argv[1:]:
        if code := main([folder, "--quiet"]):
            sys.exit(code)
