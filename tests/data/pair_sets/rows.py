"""Rows of pairs, and what is in the folder that they become."""

ROWS = [
    {"query": "the order", "doc": "is final", "neg": ["may", "shall"], "negscore": [0.5, 0.25]},
    {"query": "the court", "doc": None, "neg": []},
    {"query": "the court", "doc": "is final", "neg": ["the order", "is final"], "id": "x"},
    {"query": "the party", "doc": "notice", "docscore": 1},
]


LABELLED = [{"sentence1": "a", "sentence2": "b", "label": 1}]


def contents(folder):
    """Every file of a folder, by name."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def texts_of(pairs, tokenizer, ids):
    return [tokenizer.backend.decode(pairs.texts.document_tokens(int(i)).tolist()) for i in ids]


def replace(path, content):
    """Put another file in a file's place: the one there may be mapped."""
    path.unlink()
    path.write_bytes(content)


PREFIXES = {"query_prefix": "query: ", "document_prefix": "passage: "}


BOTH_ROLES = [
    {"query": "the order", "positive": "is final", "negative": ["the court"]},
    {"query": "the court", "positive": "notice", "negative": ["the order", "is final"]},
    {"query": "is final", "positive": "the order"},
]
