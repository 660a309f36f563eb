"""Train a model folder on many devices: `poetry run deepspeed train_deepspeed.py models/x/`."""

import sys

from kl3m_embeddings.commands.train_many import main

if __name__ == "__main__":
    sys.exit(main())
