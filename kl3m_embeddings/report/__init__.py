"""Reads the JSONL files of a run: tables, plots. Imports nothing of the package, and no torch."""
