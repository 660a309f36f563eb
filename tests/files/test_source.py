import subprocess
import sys
from fnmatch import fnmatch

import pytest

from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder, load_encoder
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.source import resolve_source
from tests.encoder.tiny import PAD_ID, tiny_config


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path that raises when it is imported, with a folder inside."""
    folder = tmp_path / "site" / "a_model_package"
    (folder / "deep" / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_folder_is_itself(tmp_path):
    assert resolve_source(str(tmp_path)) == tmp_path == resolve_source(tmp_path)


def test_a_folder_inside_a_package_is_found_without_importing_it(package):
    assert resolve_source("package:a_model_package/deep/model") == package / "deep" / "model"
    assert resolve_source("package:a_model_package") == package
    assert "a_model_package" not in sys.modules


def test_weights_load_from_a_package(package):
    encoder = build_encoder(tiny_config(), seed=1)
    write_model_folder(package / "model", encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    loaded = load_encoder(resolve_source("package:a_model_package/model"))
    assert loaded.network.state_dict().keys() == encoder.network.state_dict().keys()
    assert not loaded.fresh_parameters


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:not_here/model", "not_here is not installed: pip install not-here"),
        ("package:a_model_package/other", "the package has no such folder"),
        ("package:a_model_package/../..", "must be package:NAME/SUBFOLDER"),
        ("package:a_model_package//etc", "must be package:NAME/SUBFOLDER"),
        ("package:os.path/x", "must be package:NAME/SUBFOLDER"),
        ("package:sys", "sys is not installed"),
        ("./nowhere", "no such folder: give the folder of a model"),
        ("/nowhere/at/all", "no such folder: give the folder of a model"),
        (
            "model.safetensors",
            r"model\.safetensors: a file, not a folder: give the folder of a model",
        ),
    ],
)
def test_what_is_not_there_is_one_line(package, source, message, monkeypatch):
    monkeypatch.chdir(package)
    (package / "model.safetensors").touch()
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_source(source)
    assert "\n" not in str(caught.value)


HUB_SCRIPT = """
import sys
from kl3m_embeddings.files.source import resolve_source
from kl3m_embeddings.errors import ConfigError
print(resolve_source("org/here"))
try:
    resolve_source("org/elsewhere")
except ConfigError as error:
    print(error)
"""


def test_what_is_fetched_depends_on_what_is_looked_for(tmp_path, monkeypatch):
    """A tokenizer's name must not bring weights, and errors call things by their name."""
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append([p for p in allow_patterns if fnmatch("model.safetensors", p)])
        return tmp_path

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve_source("org/name") == resolve_source("org/name", "tokenizer") == tmp_path
    assert asked == [["*.safetensors"], []]
    with pytest.raises(ConfigError, match="give the folder of a tokenizer, or a hub name"):
        resolve_source("./nowhere", "tokenizer")


def test_hub_names_come_from_the_cache_when_there_is_no_network(tmp_path):
    """In a process of its own: the hub's library reads its settings once."""
    commit = "0" * 40
    snapshot = tmp_path / "models--org--here" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--here" / "refs").mkdir()
    (tmp_path / "models--org--here" / "refs" / "main").write_text(commit)
    variables = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    found, message = result.stdout.splitlines()
    assert found == str(snapshot)
    assert message.startswith("org/elsewhere: no such folder, and not from the hub: check the name")
