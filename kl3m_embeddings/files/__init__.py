"""Files that are whole, verified, hashed and locked; JSON and its lines."""
