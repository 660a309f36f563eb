"""Train a model folder on one device: `poetry run python train_single.py models/x/`."""

import sys

from kl3m_embeddings.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
