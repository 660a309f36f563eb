"""Files of pairs become sets of token ids, and sets an order of rows."""
