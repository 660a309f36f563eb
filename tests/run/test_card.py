"""The card of a run's checkpoints says what is exported."""

import json

from sentence_transformers import SentenceTransformer

from tests.run.tuned import read, train, tuned_folder


def test_the_card_says_what_is_exported(make_model_folder, base):
    path = base / "config_sentence_transformers.json"
    said = {"similarity_fn_name": "dot", "default_prompt_name": "query", "truncate_dim": 16}
    path.write_text(json.dumps(read(path) | said))
    folder = tuned_folder(make_model_folder, base)
    assert train(folder, "--stop-after", 1) == 0
    exported = SentenceTransformer(str(folder / "latest"), device="cpu")
    assert exported.similarity_fn_name == "dot"
    assert exported.encode("court order").shape == (16,)
    card = (folder / "latest" / "README.md").read_text()
    assert "| Similarity | dot |" in card
    assert "| Cut to dimensions, unless told | 16 |" in card
    assert "Without `prompt_name`, texts get the prompt named query." in card
