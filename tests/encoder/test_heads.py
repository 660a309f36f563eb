import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForMaskedLM

from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.heads import MASKED_HEADS
from tests.encoder.tiny import tiny_batch, tiny_config


@pytest.mark.parametrize("model_type", MASKED_HEADS)
def test_logits_and_losses_equal_transformers(model_type):
    config = tiny_config(model_type)
    encoder = build_encoder(config, seed=1).eval()
    theirs = AutoModelForMaskedLM.from_config(config).eval()
    theirs.load_state_dict(encoder.network.state_dict())
    input_ids, attention_mask = tiny_batch()
    positions = attention_mask.flatten().nonzero()[:, 0]
    expected = theirs(input_ids, attention_mask=attention_mask.long()).logits.flatten(0, 1)

    hidden = encoder.hidden_states(input_ids, attention_mask)
    states = encoder.hidden_states(input_ids, attention_mask, positions=positions)
    torch.testing.assert_close(states, hidden.flatten(0, 1)[positions], rtol=1e-5, atol=1e-5)
    logits = encoder.target_logits(states)
    torch.testing.assert_close(logits, expected[positions], rtol=1e-5, atol=1e-5)
    labels = input_ids.flatten()[positions]
    losses, correct = encoder.masked_lm_loss(states, labels)
    wanted = F.cross_entropy(expected[positions], labels, reduction="none")
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(correct, expected[positions].argmax(-1) == labels)
