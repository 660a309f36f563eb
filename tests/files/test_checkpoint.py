import resource
import signal

import pytest
import torch
from safetensors.torch import save_file

from kl3m_embeddings.errors import DamagedError, DataError, OutputError
from kl3m_embeddings.files.checkpoint import (
    MANIFEST,
    Base,
    checkpoint_steps,
    newest_verified,
    prune,
    remove_unfinished,
    save_checkpoint,
    verify,
    write_manifest,
)

DETAILS = {"identity": {"seed": 0}, "num_threads": 1, "log_offsets": {"a": 7}}


def write_model(path):
    (path / "model.safetensors").write_bytes(bytes(range(100)))
    (path / "trainer").mkdir()
    (path / "trainer" / "state.json").write_text('{"step": 4}')


def save(folder, step, write=write_model):
    return save_checkpoint(folder, step, write, dict(DETAILS))


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_what_a_run_began_from_is_read_with_what_another_release_adds(tmp_path):
    assert verify(save(tmp_path, 4)).base is None
    base = {"source": "models/base", "fingerprint": "4d7a", "of_later": 1}
    path = save_checkpoint(tmp_path, 8, write_model, DETAILS | {"base": base})
    assert verify(path).base == Base(source="models/base", fingerprint="4d7a", has_tokenizer=True)


def test_what_is_saved_is_verified(tmp_path):
    path = save(tmp_path, 4)
    checkpoint = verify(path)
    assert checkpoint.step == 4
    assert checkpoint.manifest["identity"] == {"seed": 0}
    assert checkpoint.manifest["log_offsets"] == {"a": 7}
    assert set(checkpoint.manifest["files"]) == {"model.safetensors", "trainer/state.json"}
    save(tmp_path, 8)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-8"]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer/state.json", MANIFEST])
class TestDamage:
    def test_a_missing_file(self, tmp_path, name):
        path = save(tmp_path, 4)
        (path / name).unlink()
        with pytest.raises(DataError, match=MANIFEST if name == MANIFEST else f"{name}: missing"):
            verify(path)

    def test_a_file_cut_anywhere(self, tmp_path, name):
        path = save(tmp_path, 4)
        content = (path / name).read_bytes()
        for size in (0, 1, len(content) // 2, len(content) - 2):
            (path / name).write_bytes(content[:size])
            with pytest.raises(DataError, match=name):
                verify(path)

    def test_any_flipped_bit(self, tmp_path, name):
        path = save(tmp_path, 4)
        content = (path / name).read_bytes()
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << (place % 8)
            (path / name).write_bytes(damaged)
            with pytest.raises(DataError):
                verify(path)
        (path / name).write_bytes(content)
        verify(path)


@pytest.mark.parametrize("text", ["[]", "null", "3", "{}", '{"files": 1, "sha256": "x"}'])
def test_a_manifest_that_is_none(tmp_path, text):
    path = save(tmp_path, 4)
    (path / MANIFEST).write_text(text)
    with pytest.raises(DataError):
        verify(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", None),
        ("step", -4),
        ("step", "4"),
        ("identity", None),
        ("identity", [1]),
        ("base", {"source": "models/base"}),
        ("base", {"source": "models/base", "fingerprint": 7}),
        ("base", ["models/base"]),
        ("num_threads", None),
        ("num_threads", 0),
        ("num_threads", 10**9),
        ("num_devices", 0),
        ("log_offsets", None),
        ("log_offsets", {"a": -1}),
        ("log_offsets", {"a": 10**30}),
    ],
)
def test_a_sealed_manifest_that_no_run_wrote_is_damage_like_any_other(tmp_path, key, value):
    """None: the key is not there."""
    save(tmp_path, 4)
    path = save(tmp_path, 8)
    (path / MANIFEST).unlink()
    details = {"step": 8, **DETAILS, key: value}
    write_manifest(path, {name: one for name, one in details.items() if one is not None})
    with pytest.raises(DamagedError, match=f"manifest.json: {key}"):
        verify(path)
    told = []
    assert newest_verified(tmp_path, told.append).step == 4
    assert key in told[0]


def test_a_checkpoint_under_anothers_name_is_none(tmp_path):
    save(tmp_path, 4).rename(tmp_path / "checkpoint-8")
    save(tmp_path, 4)
    told = []
    assert newest_verified(tmp_path, told.append).step == 4
    assert "is of step 4" in told[0]


def test_what_only_the_caller_understands_is_asked_of_each(tmp_path):
    for step in (4, 8):
        save(tmp_path, step)

    def check(checkpoint):
        if checkpoint.step == 8:
            raise DamagedError("not mine")

    told = []
    assert newest_verified(tmp_path, told.append, check).step == 4
    assert told == ["not mine; falling back to the checkpoint before"]


def test_the_newest_whole_one_is_found_and_damage_is_told(tmp_path):
    for step in (4, 8, 12):
        save(tmp_path, step)
    (tmp_path / "checkpoint-12" / "model.safetensors").write_bytes(b"")
    (tmp_path / "checkpoint-8" / MANIFEST).unlink()
    told = []
    assert newest_verified(tmp_path, told.append).step == 4
    assert len(told) == 2
    assert "checkpoint-12/model.safetensors: 0 bytes, not 100" in told[0]


def test_none_and_none_whole(tmp_path):
    assert newest_verified(tmp_path, print) is None
    save(tmp_path, 4)
    (tmp_path / "checkpoint-4" / "model.safetensors").unlink()
    with pytest.raises(DataError, match="every checkpoint is damaged; start anew with --restart"):
        newest_verified(tmp_path, lambda _: None)


def test_steps_are_sorted_as_numbers(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-100", "checkpoint-x", "checkpoint-"):
        (tmp_path / name).mkdir()
    assert checkpoint_steps(tmp_path) == [100, 10, 9]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    save(tmp_path, 4)

    def fail(path):
        write_model(path)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 8, fail)
    assert checkpoint_steps(tmp_path) == [4]
    assert not list(tmp_path.glob(".unfinished*"))
    assert verify(tmp_path / "checkpoint-4").step == 4
    save(tmp_path, 8)


@pytest.fixture
def small_files_only():
    """No file may grow beyond 100 kB: what a full disk looks like to a program."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_safetensors_on_a_full_disk_is_an_output_error(tmp_path, small_files_only):
    save(tmp_path, 4)

    def write(path):
        save_file({"weight": torch.zeros(100_000)}, path / "model.safetensors")

    with pytest.raises(OutputError, match=r"checkpoint-8: cannot be written: .* make room"):
        save(tmp_path, 8, write)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint-4"]


def test_a_damaged_one_is_not_overwritten(tmp_path):
    path = save(tmp_path, 4)
    (path / "model.safetensors").write_bytes(b"damaged")
    save(tmp_path, 4)
    assert verify(path).step == 4
    assert (tmp_path / "damaged-checkpoint-4-1" / "model.safetensors").read_bytes() == b"damaged"
    assert checkpoint_steps(tmp_path) == [4]


class TestPrune:
    def keep_last(self, count):
        return lambda steps: set(steps[:count])

    def test_the_newest_are_kept(self, tmp_path):
        for step in (2, 4, 6, 8, 10):
            save(tmp_path, step)
        prune(tmp_path, self.keep_last(2), set())
        assert checkpoint_steps(tmp_path) == [10, 8]
        assert not list(tmp_path.glob(".unfinished*"))

    def test_a_damaged_one_does_not_count_as_kept(self, tmp_path):
        for step in (2, 4, 6, 8):
            save(tmp_path, step)
        (tmp_path / "checkpoint-6" / "model.safetensors").unlink()
        prune(tmp_path, self.keep_last(2), {8})
        assert checkpoint_steps(tmp_path) == [8, 6, 4]

    def test_what_is_to_keep_may_be_any_of_the_verified(self, tmp_path):
        for step in (2, 4, 6, 8):
            save(tmp_path, step)
        known = {8}
        prune(tmp_path, lambda steps: {steps[0], 2, 77}, known)
        assert checkpoint_steps(tmp_path) == [8, 2]
        assert known == {8, 2}

    def test_one_that_is_a_link_leaves_what_it_names(self, tmp_path):
        """It was moved to a larger disk."""
        run, disk = tmp_path / "run", tmp_path / "disk"
        run.mkdir()
        for step in (2, 4):
            save(run, step)
        (run / "checkpoint-2").rename(disk)
        (run / "checkpoint-2").symlink_to(disk)
        prune(run, self.keep_last(1), set())
        assert [entry.name for entry in run.iterdir()] == ["checkpoint-4"]
        assert verify(disk).step == 2


def test_leftovers_of_a_killed_process_go(tmp_path):
    save(tmp_path, 4)
    (tmp_path / ".unfinished-checkpoint-8").mkdir()
    (tmp_path / ".unfinished-doomed-2").mkdir()
    (tmp_path / ".unfinished-latest").symlink_to("gone")
    remove_unfinished(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint-4"]
