import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForMaskedLM

from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.heads import MASKED_HEADS
from kl3m_embeddings.errors import ConfigError
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


@pytest.mark.parametrize("model_type", MASKED_HEADS)
def test_embedding_mask_multiplies_the_embeddings_once(model_type):
    encoder = build_encoder(tiny_config(model_type), seed=1).eval()
    batch = tiny_batch()
    plain = encoder.hidden_states(*batch)
    assert torch.equal(encoder.hidden_states(*batch, torch.ones(32)), plain)
    base = encoder.network
    base = base.deberta if model_type == "deberta-v2" else base.base_model
    seen = []
    first_layer = next(
        module
        for name, module in base.named_modules()
        if name.endswith((".0", "albert_layer_groups.0", "embeddings_project"))
    )
    first_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    half = (torch.arange(32) < 4).float()
    assert not torch.equal(encoder.hidden_states(*batch, half), plain)
    assert torch.equal(encoder.hidden_states(*batch), plain), "the mask must not stay behind"
    if model_type != "albert":  # its first layer's input is projected after the mask
        size = seen[0].shape[-1]
        assert torch.equal(seen[0], seen[1] * half[:size])


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, same, other = (build_encoder(tiny_config(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    states = [encoder.network.state_dict() for encoder in (first, same, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    name = "deberta.encoder.layer.0.output.dense.weight"
    assert not torch.equal(states[0][name], states[2][name])


def test_weights_are_drawn_as_transformers_draws_them():
    config = tiny_config(hidden_size=128, vocab_size=400)
    ours = build_encoder(config, seed=0).network.state_dict()
    theirs = AutoModelForMaskedLM.from_config(config).state_dict()
    for name, tensor in ours.items():
        assert tensor.dtype == torch.float32
        deviation = theirs[name].std() if theirs[name].numel() > 1 else 0
        assert tensor.std() == pytest.approx(float(deviation), rel=0.1), name
        assert tensor.mean() == pytest.approx(float(theirs[name].mean()), abs=0.02), name
    padding = ours["deberta.embeddings.word_embeddings.weight"][config.pad_token_id]
    assert not padding.any()


def test_an_architecture_without_a_masked_head_still_encodes():
    encoder = build_encoder(tiny_config("gpt2", n_embd=32, n_head=4, n_layer=1), seed=0).eval()
    hidden = encoder.hidden_states(*tiny_batch())
    assert hidden.shape == (3, 24, 32)
    with pytest.raises(ConfigError, match=r"gpt2.*no masked-language head"):
        encoder.target_logits(hidden[0])
