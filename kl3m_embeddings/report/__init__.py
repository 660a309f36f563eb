"""Reads the JSONL files of a run: tables, plots. Imports no torch, and little of ours."""
