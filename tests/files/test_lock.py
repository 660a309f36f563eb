"""Locks of folders: who holds one, and where there can be none."""

import os

import pytest

from kl3m_embeddings.errors import OutputError, RetryError
from kl3m_embeddings.files.lock import build_lock, folder_lock


def test_a_second_holder_is_told_who_holds_it_and_what_it_does(tmp_path):
    with folder_lock(tmp_path / ".lock", "trains"):
        with (
            pytest.raises(RetryError, match=f": process {os.getpid()} trains here; wait for it"),
            folder_lock(tmp_path / ".lock", "trains"),
        ):
            pass
        with folder_lock(tmp_path / ".other", "scores models"):  # another kind of work
            pass
    with folder_lock(tmp_path / ".lock", "trains"):
        pass


def test_the_file_names_its_last_holder_alone(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("a much longer number than any process has")
    for _ in range(2):
        with folder_lock(path, "trains"):
            assert path.read_bytes() == str(os.getpid()).encode()


def test_a_folder_itself_is_locked_without_a_file_in_it(tmp_path):
    """A build renames its folder, or lists what is in it."""
    with build_lock(tmp_path, "builds a dataset"):
        with (
            pytest.raises(RetryError, match=": another process builds a dataset here; wait"),
            build_lock(tmp_path, "builds a dataset"),
        ):
            pass
        with folder_lock(tmp_path / ".lock", "trains"):  # another kind of work
            pass
        assert [one.name for one in tmp_path.iterdir()] == [".lock"]
    with build_lock(tmp_path, "builds a dataset"):
        pass


def test_a_folder_that_its_builder_has_just_renamed_is_not_made_a_file(tmp_path):
    with (
        pytest.raises(RetryError, match="run again"),
        build_lock(tmp_path / ".tiny.partial", "builds a pair set"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_frees_it_and_is_not_taken_for_the_locks_own(tmp_path):
    with pytest.raises(OSError, match="mine"), folder_lock(tmp_path / ".lock", "trains"):
        raise OSError("mine")
    with folder_lock(tmp_path / ".lock", "trains"):
        pass


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / ".lock"
    with pytest.raises(OutputError) as caught, folder_lock(path, "trains"):
        pass
    assert str(caught.value).startswith(f"{path}: cannot be written: Not a directory; ")
    assert caught.value.exit_code == 73
