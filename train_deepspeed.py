"""Train a model folder on many devices: `poetry run deepspeed train_deepspeed.py models/x/`."""

import os
import sys

from kl3m_embeddings.commands.train_deepspeed import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the process groups may abort an interpreter that ends by itself
