"""What every manifest holds beside the files that it seals."""

DETAILS = {"identity": {}, "num_threads": 1, "log_offsets": {}}
