"""The files of a folder as sentence-transformers wrote them before 5.4."""

import json

OLD = "sentence_transformers.models."


FLAGS = {
    "word_embedding_dimension": 8,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}


DENSE = {
    "in_features": 8,
    "out_features": 4,
    "bias": True,
    "activation_function": "torch.nn.modules.activation.Tanh",
}


PROMPTS = {"prompts": {"query": "query: ", "document": None}, "default_prompt_name": "query"}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
