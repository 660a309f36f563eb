"""Text that is on this machine already: the quickstart's corpus and pairs."""
