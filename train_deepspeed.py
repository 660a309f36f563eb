"""Train a model folder on many devices: needs the DeepSpeed engine, which is still to be built."""

import sys

if __name__ == "__main__":
    print(
        "error: training on many devices needs the DeepSpeed engine, which this version does not "
        "have yet: use train_single.py, which reads the same model folder",
        file=sys.stderr,
    )
    sys.exit(2)
