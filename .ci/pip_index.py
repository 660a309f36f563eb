"""Print the package index that pip is set to use, if it serves HTML pages only; else nothing.

Poetry's own PyPI client asks for JSON. An index that answers with HTML alone stops it, and the
plugin poetry-plugin-pypi-mirror, given the address in POETRY_PYPI_MIRROR_URL, reads the HTML.
"""

import os
import subprocess
import sys
import urllib.error
import urllib.request

JSON_API = "application/vnd.pypi.simple.v1+json"


def pip_index_url() -> str:
    """The index of PIP_INDEX_URL, of pip's configuration files, or pip's built-in one."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(command, capture_output=True, text=True, check=False)
    if configured.returncode == 0:
        return configured.stdout.strip()
    from pip._internal.models.index import PyPI

    return PyPI.simple_url


def answers_json(index_url: str) -> bool:
    """True if the index serves the JSON form of a project's page (PEP 691)."""
    request = urllib.request.Request(f"{index_url.rstrip('/')}/pip/", headers={"Accept": JSON_API})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return JSON_API in response.headers.get("Content-Type", "")
    except (urllib.error.URLError, OSError):
        return True  # let Poetry itself say what is wrong with the network


if __name__ == "__main__":
    url = pip_index_url()
    if not answers_json(url):
        print(url.rstrip("/"))
