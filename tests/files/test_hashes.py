import hashlib

import pytest

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.hashes import sha256_of_file, sha256_of_files, verify_files


def test_a_files_hash_is_that_of_its_bytes(tmp_path):
    """The second is the standard's own example."""
    contents = {"empty": b"", "abc": b"abc", "long": bytes(range(256)) * 5000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert sha256_of_file(tmp_path / name) == hashlib.sha256(content).hexdigest()
    assert sha256_of_file(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_hash_of_files_is_of_names_and_contents_in_order_of_name():
    files = {"b": {"sha256": "22", "num_bytes": 1}, "a": {"sha256": "11"}}
    expected = hashlib.sha256(b"a 11\nb 22\n").hexdigest()
    assert sha256_of_files(files) == sha256_of_files(dict(reversed(files.items()))) == expected
    assert sha256_of_files(files | {"a": {"sha256": "12"}}) != expected
    assert sha256_of_files({"c": files["b"], "a": files["a"]}) != expected


def test_the_first_file_that_differs_is_named_with_the_remedy(tmp_path):
    (tmp_path / "sub").mkdir()
    info = {"files": {}}
    for name in ("first", "sub/second"):
        (tmp_path / name).write_bytes(name.encode())
        info["files"][name] = {"sha256": sha256_of_file(tmp_path / name)}
    verify_files(tmp_path, info, "build it again")
    (tmp_path / "sub/second").write_bytes(b"Sub/second")
    with pytest.raises(DamagedError, match=r"sub/second: its SHA-256 is not .*; build it again$"):
        verify_files(tmp_path, info, "build it again")
    (tmp_path / "first").unlink()
    with pytest.raises(DamagedError, match=r"first: cannot be read: No such file .*; build it"):
        verify_files(tmp_path, info, "build it again")
