"""Statistics and plots of training logs: see docs/watching.md."""

import sys

from kl3m_embeddings.commands.describe import main

if __name__ == "__main__":
    sys.exit(main())
