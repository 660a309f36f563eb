"""Tables of the terminal and of text files."""
