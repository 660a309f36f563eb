"""Each layer against transformers' layer with the same weights."""

import pytest
import torch
from transformers.models.deberta_v2 import modeling_deberta_v2 as theirs

from kl3m_embeddings.encoder.deberta.layers import Convolution, Layer, ResidualOutput
from kl3m_embeddings.encoder.kernels.sequences import Sequences
from tests.encoder.tiny import tiny_config

BATCH, LENGTH, SIZE = 3, 10, 32


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same_weights(ours, other):
    """Both in evaluation, with weights far from their start: biases are 0 there."""
    torch.manual_seed(1)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    other.load_state_dict(ours.state_dict())
    return ours.eval(), other.eval()


def test_a_residual_output_is_theirs():
    config = tiny_config()
    ours, other = same_weights(ResidualOutput(48, config), theirs.DebertaV2Output(config))
    states, residual = normal(BATCH, LENGTH, 48), normal(BATCH, LENGTH, SIZE, seed=1)
    torch.testing.assert_close(ours(states, residual), other(states, residual))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_a_convolution_is_theirs(groups, activation):
    config = tiny_config(conv_kernel_size=3, conv_groups=groups, conv_act=activation)
    ours, other = same_weights(Convolution(config), theirs.ConvLayer(config))
    mask = torch.arange(LENGTH) < torch.tensor([10, 6, 1])[:, None]
    embeddings = normal(BATCH, LENGTH, SIZE) * mask[..., None]
    hidden = normal(BATCH, LENGTH, SIZE, seed=1)
    found = ours(embeddings, hidden, mask)
    torch.testing.assert_close(found, other(embeddings, hidden, mask.long()))
    assert not found[~mask].any()


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("terms", [["c2p", "p2c"], ["c2p"], []], ids=str)
def test_a_layer_is_theirs_and_gives_single_positions_alike(terms, shares, activation):
    """Offsets q-k from 9 to -9 are rows 19 to 1 of their table, without buckets."""
    config = tiny_config(
        pos_att_type=terms,
        share_att_key=shares,
        position_buckets=-1,
        max_relative_positions=LENGTH,
        hidden_act=activation,
    )
    ours, other = same_weights(Layer(config), theirs.DebertaV2Layer(config))
    hidden, table = normal(BATCH, LENGTH, SIZE), normal(2 * LENGTH, SIZE, seed=1)
    mask = torch.arange(LENGTH) < torch.tensor([10, 6, 1])[:, None]
    both = (mask[:, :, None] & mask[:, None, :])[:, None]
    expected = other(hidden, both, rel_embeddings=table, relative_pos=None)[0]
    rows = torch.arange(2 * LENGTH - 1, 0, -1)
    sequences = Sequences.of(mask)
    found = ours(hidden, sequences, table, rows, None)
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-5, atol=1e-5)
    positions = torch.tensor([3, 0, 12])
    few = ours(hidden, sequences, table, rows, positions)
    torch.testing.assert_close(few, found.flatten(0, 1)[positions], rtol=1e-5, atol=1e-5)
