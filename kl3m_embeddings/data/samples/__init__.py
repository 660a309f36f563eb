"""Shards become windows of tokens, in an order that is a function of their index."""
