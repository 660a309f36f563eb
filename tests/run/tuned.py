"""A model folder that goes on from a trained one, with nothing but training.json."""

import json

from kl3m_embeddings.commands.train import main

PROMPTS = {"query": "find: ", "document": "text: "}


PAIRS = {"pairs": {"probability": 1.0, "num_negatives": 1}}


WITH_MARGIN = PAIRS["pairs"] | {"loss": {"name": "infonce", "false_negative_margin": 0.0}}


def train(folder, *arguments):
    return main([str(folder), *map(str, arguments), "--quiet"])


def read(path):
    return json.loads(path.read_text())


def tuned_folder(make_model_folder, base, name="tuned", **fields):
    """A model folder with nothing but training.json."""
    fields = {"tasks": PAIRS, "init_from": str(base), "tokenizer": None} | fields
    folder = make_model_folder(name, **fields)
    (folder / "config.json").unlink()
    return folder
