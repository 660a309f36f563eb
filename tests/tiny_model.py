"""A small architecture, and texts and pairs made of a few words."""

import numpy as np

WORDS = (
    "the court shall review any order of an agency that is final under this section and set aside "
    "findings not supported by evidence unless notice was given to each party within thirty days"
).split()


TINY_CONFIG = {
    "model_type": "deberta-v2",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-07,
    "max_position_embeddings": 32,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 16,
    "relative_attention": True,
    "share_att_key": True,
    "type_vocab_size": 0,
    "vocab_size": 320,
}

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tiny_documents(num_documents=60, seed=0):
    """Texts with headings and lines, some of them short."""
    generator = np.random.default_rng(seed)

    def sentence(length):
        return " ".join(generator.choice(WORDS, length))

    documents = []
    for number in range(num_documents):
        parts = []
        for _ in range(int(generator.integers(1, 5))):
            parts.append(sentence(2).title())
            parts.extend(sentence(int(generator.integers(5, 20))) + "." for _ in range(3))
        documents.append({"id": f"doc-{number}", "text": "\n".join(parts)})
    return documents


def tiny_pairs(num_rows=60, seed=0, num_negatives=2):
    """Rows of a query, its positive and negatives: words of the positive in another order."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        words = generator.choice(WORDS, int(generator.integers(3, 24))).tolist()
        query = generator.permutation(words)[: 2 + number % 5]
        negatives = [
            " ".join(generator.choice(WORDS, int(generator.integers(3, 24))))
            for _ in range(num_negatives)
        ]
        rows.append(
            {"query": " ".join(query), "positive": [" ".join(words)], "negative": negatives}
        )
    return rows
