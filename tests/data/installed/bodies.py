"""What stands below the summary of a docstring that makes a pair."""

BODY = "Explains what it does, at length. " * 8
