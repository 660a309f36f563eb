import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kl3m_embeddings.encoder.flops import training_flops
from kl3m_embeddings.encoder.folder.load import build_encoder
from tests.encoder.tiny import tiny_config


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_count_equals_what_torch_counts(model_type):
    """Torch counts the products that run; in these architectures just those that are needed."""
    changes = {"layer_types": ["full_attention"] * 2} if model_type == "modernbert" else {}
    config = tiny_config(model_type, attn_implementation="eager", **changes)
    encoder = build_encoder(config, seed=0)
    input_ids = torch.randint(4, 50, (3, 32))  # not spread out any further
    with FlopCounterMode(display=False) as counter:
        hidden = encoder.hidden_states(input_ids, torch.ones_like(input_ids))
        logits = encoder.target_logits(hidden[0, :10])
    assert logits.shape == (10, 50)
    # Some releases of transformers compute rotary angles by a (tiny) product.
    assert training_flops(config, 96, 32, 10) == pytest.approx(3 * counter.get_total_flops(), 1e-3)


def test_position_terms_add_their_projections_and_scores():
    with_terms, without = (
        training_flops(tiny_config(pos_att_type=terms), 72, 24, 10) for terms in (["c2p"], [])
    )
    assert with_terms - without == 3 * 2 * (2 * 32 * 72 * 24 + 2 * 32**2 * 47)


def test_a_local_layer_counts_its_window():
    def count(kind):
        return training_flops(tiny_config("modernbert", layer_types=[kind] * 2), 72, 24, 10)

    difference = count("full_attention") - count("sliding_attention")
    assert difference == 3 * 2 * 4 * 32 * 72 * (24 - 8)
