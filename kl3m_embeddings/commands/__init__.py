"""Arguments and printing only: one file a command, wired from the parts below."""
