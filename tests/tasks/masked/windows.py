"""What masked rows show of their documents: lines, places, and the text before masking."""

import torch

from kl3m_embeddings.data.batch import IGNORED_LABEL


def lines_of(source, document_tokens):
    """Start and length of each line of a document, found token by token."""
    lines, start = [], None
    for place, token in enumerate(document_tokens):
        if source.newline_ids[token]:
            start = None
        elif start is None:
            start = place
            lines.append([place, 1])
        else:
            lines[-1][1] += 1
    return [tuple(line) for line in lines]


def restored(batch):
    """The ids before masking."""
    input_ids = batch.input_ids.clone()
    labelled = batch.target_labels != IGNORED_LABEL
    input_ids.view(-1)[batch.target_positions[labelled]] = batch.target_labels[labelled]
    return input_ids


def masked_rows(source, batch):
    """The rows in which a line is masked: everything predicted is one run of mask tokens."""
    labels = torch.full(batch.input_ids.shape, IGNORED_LABEL)
    labelled = batch.target_labels != IGNORED_LABEL
    labels.view(-1)[batch.target_positions[labelled]] = batch.target_labels[labelled]
    for row in range(len(labels)):
        places = (labels[row] != IGNORED_LABEL).nonzero()[:, 0].tolist()
        is_run = places == list(range(places[0], places[-1] + 1))
        if is_run and (batch.input_ids[row, places] == source.tokenizer.mask_id).all():
            yield row, places


def document_place(corpus, cut_tokens, document_tokens):
    """Where the tokens stand in their document; they must stand there somewhere."""
    size = len(cut_tokens)
    places = [
        place
        for place in range(len(document_tokens) - size + 1)
        if document_tokens[place : place + size] == cut_tokens
    ]
    assert places
    return places
