"""Train an embedding model that is better on your domain than a generic one."""
