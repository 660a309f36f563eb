import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForMaskedLM

from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.heads import MASKED_HEADS
from kl3m_embeddings.encoder.kernels.dropout import TokenKeys, keyed_by
from kl3m_embeddings.encoder.stock import without_padding
from kl3m_embeddings.encoder.stock.without_padding import PACKED_TYPES
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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_checkpointing_dropout_by_token_repeats_itself(name):
    """Under the keys of its own forward pass, though another came between."""
    results = []
    for encoder in pair(name):
        losses = []
        for step in (1, 2):
            keys = torch.tensor([step, -step, 2**40 + step]), torch.tensor([step])
            with keyed_by(TokenKeys.of(*keys, 24)):
                losses.append(encoder.hidden_states(*tiny_batch()).sin().mean())
        assert losses[0].item() != losses[1].item()
        sum(losses).backward()
        grads = [one.grad for one in encoder.parameters() if one.grad is not None]
        results.append([*losses, *grads])
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)


ROW_KEYS = torch.tensor([5, -(2**61), 2**40 + 7, 77, 2**50])
DROPS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
DROPS += ("embedding_dropout", "mlp_dropout")
EVERY_KIND = {
    **{name: {} for name in ("deberta-v2", "mpnet", *sorted(PACKED_TYPES))},
    "deberta-v2, convolution": {"conv_kernel_size": 3},
    "deberta-v2, c2p only": {"pos_att_type": ["c2p"]},
    "bert, long rows": {},
}


def with_dropout(encoder, rows, length, positions=None):
    """Hidden states of some rows of a batch, cut to a length, under their keys."""
    lengths = torch.tensor([24, 17, 9, 24, 3])[rows]
    input_ids = torch.randint(5, 50, (5, 24), generator=torch.Generator().manual_seed(0))[rows]
    mask = torch.arange(length) < lengths[:, None]
    keys = TokenKeys.of(ROW_KEYS[rows], torch.tensor([3]), length)
    with keyed_by(keys):
        states = encoder.hidden_states(input_ids[:, :length], mask, positions=positions)
    return states if positions is not None else states[mask]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", EVERY_KIND)
def test_dropout_of_a_row_does_not_depend_on_its_batch(name, autocast, monkeypatch):
    """Nor on its place there, nor on the padding: so a rank's slice has the masks of the whole."""
    limit = 8 if name.endswith("long rows") else 1024  # beyond it: with padding, by the formula
    monkeypatch.setattr(without_padding, "MAX_PACKED_LENGTH", limit)
    kind = name.split(",")[0]
    config = tiny_config(kind, **dict.fromkeys(DROPS, 0.2), **EVERY_KIND[name])
    encoder = build_encoder(config, seed=1).train()
    tolerance = {"rtol": 0.02, "atol": 0.05} if autocast else {"rtol": 1e-4, "atol": 1e-5}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        whole = with_dropout(encoder, torch.arange(5), 24).split([24, 17, 9, 24, 3])
        assert not torch.allclose(
            with_dropout(encoder.eval(), torch.tensor([0]), 24), whole[0], **tolerance
        )
        encoder.train()
        for rows, length in (([3, 0], 24), ([4, 2], 9), ([1], 17)):
            found = with_dropout(encoder, torch.tensor(rows), length)
            wanted = torch.cat([whole[row] for row in rows])
            torch.testing.assert_close(found, wanted, **tolerance)
        positions = torch.tensor([24 * 3 + 5, 2, 24 * 4])
        some = with_dropout(encoder, torch.arange(5), 24, positions)
        wanted = torch.stack([whole[3][5], whole[0][2], whole[4][0]])
        torch.testing.assert_close(some, wanted, **tolerance)


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
