"""From a corpus to its chunks, file by file: what every other use of a large corpus begins with."""
