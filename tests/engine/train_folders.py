"""Trains one model folder after the other on the ranks there are: one launch for many cases."""

import sys

from kl3m_embeddings.commands.train_deepspeed import main

if __name__ == "__main__":
    for folder in sys.argv[1:]:
        if code := main([folder, "--quiet"]):
            sys.exit(code)
