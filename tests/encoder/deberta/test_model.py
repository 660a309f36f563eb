import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DebertaV2ForMaskedLM
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

from kl3m_embeddings.encoder.deberta.model import offset_rows
from kl3m_embeddings.encoder.folder.load import build_encoder
from tests.encoder.tiny import PAD_ID, tiny_batch, tiny_config

VARIANTS = {
    "kl3m": {},
    "no shared projections": {"share_att_key": False},
    "no buckets": {"position_buckets": -1},
    "narrow buckets": {"position_buckets": 4},
    "offsets beyond the table": {"position_buckets": -1, "max_relative_positions": 8},
    "c2p first": {"pos_att_type": ["c2p", "p2c"]},
    "c2p only": {"pos_att_type": ["c2p"]},
    "p2c only, own projection": {"pos_att_type": ["p2c"], "share_att_key": False},
    "no position terms": {"pos_att_type": []},
    "no relative attention": {"relative_attention": False, "position_biased_input": True},
    "offsets not normalised": {"norm_rel_ebd": "none"},
    "absolute positions": {"position_biased_input": True},
    "convolution": {"conv_kernel_size": 3, "conv_act": "gelu"},
    "small embeddings": {"embedding_size": 16},
    "token types": {"type_vocab_size": 2},
    "new head": {"legacy": False},
    "free decoder": {"tie_word_embeddings": False},
    "other activation": {"hidden_act": "silu"},
    "no padding token": {"pad_token_id": None},
}


def same_pair(**changes):
    """Our network and transformers' with the same weights."""
    config = tiny_config(**changes)
    encoder = build_encoder(config, seed=1).eval()
    theirs = DebertaV2ForMaskedLM(config).eval()
    theirs.load_state_dict(encoder.network.state_dict())
    encoder.network.load_state_dict(theirs.state_dict())
    return encoder, theirs


def masked_labels(input_ids, attention_mask):
    chosen = attention_mask & (torch.arange(input_ids.numel()).view_as(input_ids) % 3 == 0)
    return input_ids.where(chosen, -100)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_outputs_and_gradients_equal_transformers(changes):
    encoder, theirs = same_pair(**changes)
    input_ids, attention_mask = tiny_batch()
    labels = masked_labels(input_ids, attention_mask)
    positions = labels.flatten().ge(0).nonzero()[:, 0]

    expected = theirs(
        input_ids, attention_mask=attention_mask.long(), labels=labels, output_hidden_states=True
    )
    expected.loss.backward()
    hidden = encoder.hidden_states(input_ids, attention_mask)
    states = encoder.hidden_states(input_ids, attention_mask, positions=positions)
    losses, _ = encoder.masked_lm_loss(states, labels.flatten()[positions])
    losses.mean().backward()

    close = {"rtol": 1e-5, "atol": 1e-5}
    wanted = expected.hidden_states[-1]
    torch.testing.assert_close(hidden[attention_mask], wanted[attention_mask], **close)
    logits = encoder.target_logits(states)
    torch.testing.assert_close(logits, expected.logits.flatten(0, 1)[positions], **close)
    torch.testing.assert_close(losses.mean(), expected.loss, **close)
    gradients = {name: parameter.grad for name, parameter in encoder.network.named_parameters()}
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, **close, msg=name)


def test_state_dict_names_equal_transformers():
    for changes in VARIANTS.values():
        encoder, theirs = same_pair(**changes)
        assert encoder.network.state_dict().keys() == theirs.state_dict().keys()
        if changes.get("tie_word_embeddings", True):
            assert encoder.network.all_tied_weights_keys == theirs.all_tied_weights_keys


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.sampled_from([-1, 2, 4, 16, 64, 256]), st.integers(34, 512))
def test_offset_rows_are_transformers_buckets(length, num_buckets, max_offset):
    states = torch.zeros(1, length, 4)
    relative = build_relative_position(states, states, num_buckets, max_offset)[0]
    span = num_buckets if num_buckets > 0 else max_offset
    expected = (relative + span).clamp(0, 2 * span - 1)
    rows = offset_rows(length, num_buckets, max_offset, torch.device("cpu"))
    assert torch.equal(rows, torch.cat([expected[-1], expected[0, 1:]]))


def test_other_sequences_of_the_batch_and_padding_do_not_matter():
    encoder = build_encoder(tiny_config(), seed=0).eval()
    input_ids, attention_mask = tiny_batch()
    together = encoder.hidden_states(input_ids, attention_mask)
    alone = encoder.hidden_states(input_ids[1:2, :16], attention_mask[1:2, :16])
    torch.testing.assert_close(together[1, :16], alone[0], rtol=1e-5, atol=1e-5)


def test_an_empty_sequence_stays_finite():
    encoder = build_encoder(tiny_config(), seed=0).train()
    input_ids = torch.full((2, 8), PAD_ID)
    hidden = encoder.hidden_states(input_ids, torch.zeros(2, 8, dtype=torch.bool))
    hidden.sum().backward()
    assert hidden.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_embedding_mask_silences_the_other_dimensions():
    encoder = build_encoder(tiny_config(), seed=0).eval()
    input_ids, attention_mask = tiny_batch()
    mask = (torch.arange(32) < 8).float()
    masked = encoder.hidden_states(input_ids, attention_mask, mask)
    assert not torch.equal(masked, encoder.hidden_states(input_ids, attention_mask))
    norm = encoder.network.deberta.embeddings.LayerNorm
    with torch.no_grad():
        norm.weight[8:] += 5
        norm.bias[8:] += 5
    assert torch.equal(masked, encoder.hidden_states(input_ids, attention_mask, mask))


@pytest.mark.parametrize("rate", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_acts_in_training_only_and_follows_the_seed(rate):
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder = build_encoder(tiny_config(**{**off, rate: 0.5}), seed=0)
    batch = tiny_batch()

    def run(seed):
        torch.manual_seed(seed)
        return encoder.hidden_states(*batch)

    encoder.train()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    encoder.eval()
    assert torch.equal(run(1), run(2))


def test_bf16_autocast_stays_near_fp32():
    encoder = build_encoder(tiny_config(), seed=0).eval()
    input_ids, attention_mask = tiny_batch()
    exact = encoder.hidden_states(input_ids, attention_mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder.hidden_states(input_ids, attention_mask)
    error = (rough.float() - exact)[attention_mask].norm() / exact[attention_mask].norm()
    assert error < 0.03
