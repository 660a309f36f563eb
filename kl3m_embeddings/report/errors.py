"""What the reader of a report can mend: one line that names the file and the remedy."""

USAGE = 2
DATA = 65
OUTPUT = 73


class ReportError(ValueError):
    """A file cannot be read or written; `exit_code` is USAGE, DATA or OUTPUT."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
