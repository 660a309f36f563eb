"""The plots of a run, and of several compared, as PNG files."""
