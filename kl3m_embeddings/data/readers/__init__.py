"""Files of text, tables and archives become records."""
