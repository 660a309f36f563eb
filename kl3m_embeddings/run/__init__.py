"""One run put together: from a request to a `Trainer` at its starting point."""
