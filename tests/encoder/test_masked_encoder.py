import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForMaskedLM

from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.heads import MASKED_HEADS
from kl3m_embeddings.errors import ConfigError
from tests.encoder.tiny import PAD_ID, tiny_batch, tiny_config


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


ARCHITECTURES = {
    "deberta-v2": {"attention_probs_dropout_prob": 0.2, "hidden_dropout_prob": 0.2},
    "deberta-v2, convolution": {"conv_kernel_size": 3, "hidden_dropout_prob": 0.2},
    "deberta-v2, c2p only": {"pos_att_type": ["c2p"], "attention_probs_dropout_prob": 0.2},
    "bert": {"attention_probs_dropout_prob": 0.2, "hidden_dropout_prob": 0.2},
    "modernbert": {
        "mlp_dropout": 0.2,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
    },
}


def pair(name):
    """The same encoder without and with checkpointing."""
    config = tiny_config(name.split(",")[0], num_hidden_layers=4, **ARCHITECTURES[name])
    plain, checkpointed = (build_encoder(config, seed=1).train() for _ in range(2))
    checkpointed.enable_gradient_checkpointing()
    return plain, checkpointed


def passed(encoder, *, seed=3, autocast=False, device="cpu"):
    """Hidden states, bytes saved for the backward pass, gradients, and the next random number."""
    encoder.to(device)
    batch = [tensor.to(device) for tensor in tiny_batch()]
    saved = 0

    def count(tensor):
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    torch.manual_seed(seed)
    with (
        saved_tensors_hooks(count, lambda tensor: tensor),
        torch.autocast(device, torch.bfloat16, enabled=autocast),
    ):
        hidden = encoder.hidden_states(*batch)
    factors = torch.linspace(-1, 1, hidden.numel(), device=device).view_as(hidden)
    loss = (hidden.float() * factors).sum()
    encoder.zero_grad()
    loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in encoder.named_parameters()
        if parameter.grad is not None
    }
    return hidden.detach(), saved, gradients, torch.rand((), device=device)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_checkpointing_gradients_are_the_same_and_less_is_kept(name, autocast):
    plain, checkpointed = pair(name)
    hidden, saved, gradients, random = passed(plain, autocast=autocast)
    again, saved_again, gradients_again, random_again = passed(checkpointed, autocast=autocast)
    assert torch.equal(hidden, again)
    assert torch.equal(random, random_again)
    assert gradients.keys() == gradients_again.keys()
    for key, gradient in gradients.items():
        assert torch.equal(gradient, gradients_again[key]), key
    assert saved_again < saved / 4
    other = passed(checkpointed, seed=4, autocast=autocast)
    assert not torch.equal(other[0], hidden), "there is no dropout to repeat"


@pytest.mark.gpu
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_checkpointing_dropout_repeats_itself_on_cuda(name):
    plain, checkpointed = pair(name)
    hidden, saved, gradients, random = passed(plain, device="cuda")
    again, saved_again, gradients_again, random_again = passed(checkpointed, device="cuda")
    assert torch.equal(hidden, again)
    assert torch.equal(random, random_again)
    for key, gradient in gradients.items():
        # Sums of gradients come in any order there.
        torch.testing.assert_close(gradient, gradients_again[key], msg=key)
    assert saved_again < saved / 4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_checkpointing_evaluation_and_encoding_are_unchanged(name):
    plain, checkpointed = pair(name)
    expected, found = passed(plain.eval()), passed(checkpointed.eval())
    assert torch.equal(expected[0], found[0])
    assert expected[1] == found[1]
    texts = [[5, 6, 7], [8, 9]]
    vectors = [encode_ids(one, texts, pad_id=PAD_ID) for one in (plain, checkpointed)]
    assert (vectors[0] == vectors[1]).all()


def test_a_training_pass_without_gradients_recomputes_nothing(monkeypatch):
    _, encoder = pair("deberta-v2")
    calls = []
    module = "kl3m_embeddings.encoder.deberta.model.checkpoint"
    monkeypatch.setattr(module, lambda layer, *inputs, **_: calls.append(1) or layer(*inputs))
    with torch.no_grad():
        encoder.hidden_states(*tiny_batch())
    assert not calls
    encoder.hidden_states(*tiny_batch())
    assert len(calls) == 4


def test_an_architecture_without_checkpointing_is_refused():
    config = AutoConfig.for_model("xlnet", vocab_size=50, d_model=32, n_head=4, n_layer=1)
    with pytest.raises(ConfigError, match="model_type 'xlnet' has no gradient checkpointing"):
        build_encoder(config, seed=0).enable_gradient_checkpointing()
