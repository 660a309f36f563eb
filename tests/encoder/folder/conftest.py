import pytest
import torch
from safetensors.torch import save_file

from tests.encoder.folder.old_folder import DENSE, FLAGS, OLD, PROMPTS, write


@pytest.fixture
def folder(tmp_path):
    """Transformer, Pooling, Dense and Normalize in the old form; the last without any file."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_N": "Normalize"}
    write(
        tmp_path / "modules.json",
        [
            {"idx": idx, "name": str(idx), "path": path, "type": OLD + kind}
            for idx, (path, kind) in enumerate(kinds.items())
        ],
    )
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True})
    write(tmp_path / "1_Pooling" / "config.json", FLAGS)
    write(tmp_path / "2_Dense" / "config.json", DENSE)
    tensors = {"linear.weight": torch.randn(4, 8), "linear.bias": torch.randn(4)}
    save_file(tensors, tmp_path / "2_Dense" / "model.safetensors")
    write(tmp_path / "config_sentence_transformers.json", PROMPTS)
    write(tmp_path / "config.json", {"max_position_embeddings": 40})
    return tmp_path
