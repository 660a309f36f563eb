"""Print the package index that pip is set to use, if Poetry's own client cannot; else nothing.

Poetry's PyPI client asks for the JSON of a project's page, and of each release. An index that
does not answer both stops it. The plugin poetry-plugin-pypi-mirror, given the address in
POETRY_PYPI_MIRROR_URL, needs neither.
"""

import os
import subprocess
import sys
import urllib.error
import urllib.request

JSON_API = "application/vnd.pypi.simple.v1+json"
KNOWN_RELEASE = "25.0"
HTTP_NOT_FOUND = 404


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
    """True if the index serves what Poetry's PyPI client asks for.

    That is the JSON form of a project's page (PEP 691), and PyPI's own of a release.
    """
    base = index_url.rstrip("/")
    request = urllib.request.Request(f"{base}/pip/", headers={"Accept": JSON_API})
    release = f"{base.removesuffix('/simple')}/pypi/pip/{KNOWN_RELEASE}/json"
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            if JSON_API not in response.headers.get("Content-Type", ""):
                return False
        with urllib.request.urlopen(release, timeout=60):
            return True
    except urllib.error.HTTPError as error:
        return error.code != HTTP_NOT_FOUND
    except (urllib.error.URLError, OSError):
        return True  # let Poetry itself say what is wrong with the network


if __name__ == "__main__":
    url = pip_index_url()
    if not answers_json(url):
        print(url.rstrip("/"))
