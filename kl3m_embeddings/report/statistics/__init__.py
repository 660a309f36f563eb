"""What tables, plots and the report say, computed from what was read."""
