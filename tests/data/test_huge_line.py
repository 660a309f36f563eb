"""A line of one gigabyte is skipped, counted, and never held in memory."""

import subprocess
import sys

PROGRAM = """
import resource, sys
from kl3m_embeddings.data.readers.documents import iter_documents

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
skipped = []
documents = list(iter_documents(sys.argv[1], on_skip=skipped.append))
grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
assert [document.text for document in documents] == ["before", "after"], documents
assert [(skip.line, skip.reason) for skip in skipped] == [(2, "too long")], skipped
assert grown_mb < 400, grown_mb
"""


def test_a_line_of_one_gigabyte(tmp_path):
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        file.seek(2**30, 1)  # a hole: it takes no room on the disk, and reads as a gigabyte
        file.write(b'"}\n{"text": "after"}\n')
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], check=True)
