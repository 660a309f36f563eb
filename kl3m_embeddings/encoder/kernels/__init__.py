"""The mathematics of encoders in less time and memory; no architecture."""
