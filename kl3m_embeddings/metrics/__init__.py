"""Measures of rankings and of labelled pairs; numpy only."""
