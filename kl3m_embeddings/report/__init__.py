"""Reads the JSONL files of a run: tables and plots. Imports nothing of the package, and no torch."""
