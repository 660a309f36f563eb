"""Reads the JSONL files of a run: tables, plots. Of ours it imports errors and whole files, and no torch."""
