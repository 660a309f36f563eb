import torch

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from tests.encoder.tiny import tiny_config

PACKED = MaskedLanguageModelling(MlmOptions(probability=1.0, pack=True))


def test_rows_hold_framed_documents_and_their_targets(make_sources):
    source = make_sources(max_length=48)[0]
    batch = PACKED.batch(source, 3, 8)
    rows = source.packs.rows(3, 8)
    bounds = batch.bounds[batch.bounds[:, 1] > 0].tolist()
    assert len(bounds) == len(rows.row_of)
    assert len(batch.bounds) == 8 * source.packs.max_windows
    is_real = batch.target_labels != IGNORED_LABEL
    labels = torch.full((8 * 48,), IGNORED_LABEL)
    labels[batch.target_positions[is_real]] = batch.target_labels[is_real]
    ids = torch.where(labels == IGNORED_LABEL, batch.input_ids.flatten(), labels)
    windows = source.corpus.read(rows.spans)
    for (start, end), row, tokens, length in zip(
        bounds, rows.row_of, windows.tokens, windows.lengths, strict=True
    ):
        assert row * 48 <= start < end <= (row + 1) * 48
        document = ids[start:end].tolist()
        assert document[0] == source.tokenizer.cls_id
        assert document[-1] == source.tokenizer.sep_id
        assert document[1:-1] == tokens[:length].tolist()
        assert labels[start] == labels[end - 1] == IGNORED_LABEL
    num_documents = torch.zeros(8 * 48, dtype=torch.long)
    for start, end in bounds:
        num_documents[start:end] += 1
    assert torch.equal(num_documents.view(8, 48), batch.attention_mask)
    assert batch.counts["mlm"] == is_real.sum()
    assert sum(batch.info.tokens_by_dataset.values()) == num_documents.sum()
    assert sum(batch.info.samples_by_dataset.values()) == 8
    assert batch.attention_length(48) == sum((b - a) ** 2 for a, b in bounds) / (8 * 48)


def test_losses_are_those_of_the_documents_alone(make_sources):
    source = make_sources(max_length=48)[0]
    batch = PACKED.batch(source, 0, 4)
    encoder = build_encoder(tiny_config(vocab_size=320), seed=0).eval()
    real = batch.target_labels != IGNORED_LABEL
    positions, labels = batch.target_positions[real], batch.target_labels[real]
    states = encoder.hidden_states(
        batch.input_ids, batch.attention_mask, positions=positions, bounds=batch.bounds
    )
    losses, _ = encoder.masked_lm_loss(states, labels)
    alone = []
    for start, end in batch.bounds.tolist():
        document = batch.input_ids.flatten()[start:end][None]
        chosen = (positions >= start) & (positions < end)
        if chosen.any():
            states = encoder.hidden_states(
                document, torch.ones_like(document), positions=positions[chosen] - start
            )
            alone.append(encoder.masked_lm_loss(states, labels[chosen])[0])
    torch.testing.assert_close(losses, torch.cat(alone), rtol=1e-4, atol=1e-5)
