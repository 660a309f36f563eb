"""The fields of training.json, how the file is read, and the table of them in the docs."""
