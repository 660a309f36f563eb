"""The files of each module in a sentence-transformers folder, of every release so far.

Releases before 5.4 wrote a pooling as booleans (`pooling_mode_mean_tokens`), later ones write
`"pooling_mode": "mean"`; classes moved within the package, but kept their own names. A setting that
changes what comes out and that cannot be trained here is an error. Nothing is unpickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from kl3m_embeddings.data.tokenizer.files import SENTENCE_SETTINGS
from kl3m_embeddings.encoder.embedding_head import ACTIVATIONS, DenseSettings
from kl3m_embeddings.encoder.folder.weight_files import check_finite, weight_files
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.path_kind import utf8_folder
from kl3m_embeddings.files.source import is_inside
from kl3m_embeddings.files.strict_json import read_json, read_json_object

# sentence-transformers' name of a pooling -> ours.
POOLING_MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
}
# The boolean that an earlier release wrote -> sentence-transformers' name.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# What these settings must be, where they are given: the transformer gives the tokens' states,
PLAIN_TRANSFORMER: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "processing_kwargs": {},
    "query_length": None,
    "document_length": None,
    "query_expansion": None,
}
# and each module after the pooling works on the text's one vector.
PLAIN_MODULE: dict[str, Any] = {
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
    "use_residual": False,
}
# Arguments that sentence-transformers hands on to transformers: they make another model, but these.
ARGUMENTS = tuple(
    f"{of}_{kind}"
    for of in ("model", "config", "tokenizer", "processor")
    for kind in ("args", "kwargs")
)
WITHOUT_EFFECT = {"attn_implementation", "dtype", "torch_dtype", "trust_remote_code"}
# What stands for a text: the last states, as the network's own method gives them.
LAST_STATES = {"method": "forward", "method_output_name": "last_hidden_state"}
# Tokenizers without a limit say 10**30.
UNLIMITED = 10**9


class ModuleEntry(NamedTuple):
    """One entry of modules.json: the class's full name, and where its files are."""

    type: str
    folder: Path

    @property
    def kind(self) -> str:
        """The class's own name."""
        return self.type.rpartition(".")[2]


def module_entries(folder: Path) -> list[ModuleEntry]:
    """The modules of a folder; none where there is no modules.json."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    found = read_json(path)
    try:
        entries = [(str(entry.get("type", "")), str(entry["path"])) for entry in found]
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: must be a list of modules, each with type and path") from error
    for _, place in entries:
        if not is_inside(place):
            raise ConfigError(f"{path}: path {place!r} leads out of the folder")
    if not entries:
        raise ConfigError(f"{path}: names no module")
    return [ModuleEntry(kind, folder / place) for kind, place in entries]


def read_transformer_settings(folder: Path) -> dict[str, Any]:
    """The settings beside the transformer's config.json; none where there is no such file."""
    for name in SENTENCE_SETTINGS:
        path = folder / name
        if path.is_file():
            settings = read_plain(path, PLAIN_TRANSFORMER)
            check_arguments(path, settings)
            length = settings.get("max_seq_length")
            if length is not None and (type(length) is not int or length < 1):
                raise ConfigError(
                    f"{path}: max_seq_length: must be a whole number above 0, or null"
                )
            return settings
    return {}


def check_arguments(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise if settings say how to load a transformer otherwise than its own files do."""
    for key in ARGUMENTS:
        given = settings.get(key) or {}
        strange = sorted(given.keys() - WITHOUT_EFFECT) if isinstance(given, dict) else [given]
        if strange:
            raise ConfigError(
                f"{path}: {key}: {strange[0]!r} cannot be trained here: write it to config.json or "
                "tokenizer_config.json, and leave it out"
            )
    modalities = settings.get("modality_config")
    if modalities is not None and (
        not isinstance(modalities, dict) or modalities.get("text") != LAST_STATES
    ):
        raise ConfigError(
            f"{path}: modality_config: texts must be embedded by {LAST_STATES} to be trained here"
        )


def read_tokenizer_length(folder: Path) -> int | None:
    """The tokenizer's longest text, no longer than the architecture's positions; None: unsaid."""
    path = folder / "tokenizer_config.json"
    length: Any = read_json_object(path).get("model_max_length") if path.is_file() else None
    if length is None:
        return None
    if type(length) not in (int, float) or length < 1:
        raise ConfigError(f"{path}: model_max_length: must be a whole number above 0, or null")
    if length > UNLIMITED:
        return None
    if type(length) is float:
        raise ConfigError(f"{path}: model_max_length: {length} must be written {length:.0f}")
    path = folder / "config.json"
    positions = read_json_object(path).get("max_position_embeddings") if path.is_file() else None
    return min(length, positions) if isinstance(positions, int) and positions > 0 else int(length)


def read_pooling(folder: Path) -> tuple[str, bool]:
    """Our name of the pooling, and whether a prompt's tokens are pooled, too."""
    path = folder / "config.json"
    settings = read_json_object(path)
    mode = settings.get("pooling_mode")
    if mode is None:
        mode = [name for flag, name in POOLING_FLAGS.items() if settings.get(flag)] or "mean"
    modes = [mode] if isinstance(mode, str) else mode
    supported = ", ".join(POOLING_MODES)
    if not isinstance(modes, list) or len(modes) != 1:
        raise ConfigError(
            f"{path}: pooling {modes!r}: concatenated poolings cannot be trained here: "
            f"keep one of {supported}"
        )
    if modes[0] not in POOLING_MODES:
        raise ConfigError(
            f"{path}: pooling {modes[0]!r} cannot be trained here: supported are {supported}"
        )
    return POOLING_MODES[modes[0]], bool(settings.get("include_prompt", True))


def read_dense(folder: Path) -> tuple[DenseSettings, Mapping[str, Tensor]]:
    """Settings and tensors of a dense layer."""
    path = folder / "config.json"
    fields = read_plain(path, PLAIN_MODULE)
    sizes = [fields.get(key) for key in ("in_features", "out_features")]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ConfigError(f"{path}: in_features and out_features must be whole numbers above 0")
    settings = DenseSettings(
        in_features=fields["in_features"],
        out_features=fields["out_features"],
        bias=bool(fields.get("bias", True)),
        activation=activation_name(path, fields.get("activation_function", "torch.nn.Tanh")),
    )
    return settings, read_dense_weights(folder, settings)


def activation_name(path: Path, full_name: object) -> str:
    """The name in ACTIVATIONS of an activation that is given by its place in torch."""
    module, _, name = str(full_name).rpartition(".")
    if module.split(".")[0] != "torch" or name not in ACTIVATIONS:
        raise ConfigError(
            f"{path}: activation_function {full_name!r} cannot be trained here: "
            f"supported are torch.nn's {', '.join(ACTIVATIONS)}"
        )
    return name


def read_dense_weights(folder: Path, settings: DenseSettings) -> dict[str, Tensor]:
    """The tensors of a dense layer, in fp32."""
    files = weight_files(folder)
    with utf8_folder(folder) as place:
        parts = [load_file(place / one.name) for one in files if one.suffix == ".safetensors"]
    tensors = {name: tensor for part in parts for name, tensor in part.items()}
    shapes: dict[str, tuple[int, ...]] = {
        "linear.weight": (settings.out_features, settings.in_features)
    }
    if settings.bias:
        shapes["linear.bias"] = (settings.out_features,)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes:
        raise ConfigError(f"{files[0]}: holds {found}, but {shapes} by config.json")
    check_finite(files[0], tensors.items())
    return {name: tensor.float() for name, tensor in tensors.items()}


def read_plain(path: Path, plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a file; those in `plain` must have its values, if they are there."""
    settings = read_json_object(path)
    for key, value in plain.items():
        if key in settings and settings[key] != value:
            raise ConfigError(
                f"{path}: {key}: {settings[key]!r} cannot be trained here: only {value!r} can"
            )
    return settings
