import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.optim.build import build_optimizers, set_lr, step_unless
from tests.tiny_model import TINY_CONFIG

KINDS = {
    "adamw fused": {"fused": True},
    "adamw unfused": {"fused": False},
    "muon": {"name": "muon"},
    "muon unfused": {"name": "muon", "fused": False},
}


def config_of(**settings):
    return OptimizerConfig(total_steps=10, **settings)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0)


def groups_of(optimizers, encoder):
    """Optimizer, weight decay and lr_scale of every parameter by name."""
    names = {parameter: name for name, parameter in encoder.named_parameters()}
    return {
        names[parameter]: (type(one).__name__, group["weight_decay"], group["lr_scale"])
        for one in optimizers
        for group in one.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_one_group(encoder, name):
    optimizers = build_optimizers(encoder.named_parameters(), config_of(name=name))
    grouped = [p for one in optimizers for group in one.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(encoder.parameters()))


def test_adamw_decays_matrices_only(encoder):
    groups = groups_of(
        build_optimizers(encoder.named_parameters(), config_of(adamw_wd=0.3)), encoder
    )
    for name, parameter in encoder.named_parameters():
        assert groups[name] == ("AdamW", 0.3 if parameter.ndim > 1 else 0.0, 1.0)
        if name.endswith("bias") or "LayerNorm" in name:
            assert groups[name][1] == 0.0


def test_muon_takes_the_layers_matrices_only(encoder):
    config = config_of(name="muon", muon_lr=6e-3, peak_lr=2e-3)
    groups = groups_of(build_optimizers(encoder.named_parameters(), config), encoder)
    by_muon = {name for name, group in groups.items() if group[0] == "Muon"}
    assert by_muon == {
        name for name, p in encoder.named_parameters() if ".layer." in name and p.ndim == 2
    }
    assert len(by_muon) == 2 * 6
    assert not any("embeddings" in name or name.endswith("bias") for name in by_muon)
    assert {groups[name][2] for name in by_muon} == {6e-3 / 2e-3}


def test_frozen_parameters_are_left_out():
    encoder = build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0)
    frozen = dict(encoder.named_parameters())["network.deberta.embeddings.word_embeddings.weight"]
    frozen.requires_grad_(False)
    optimizers = build_optimizers(encoder.named_parameters(), config_of())
    grouped = {p for one in optimizers for group in one.param_groups for p in group["params"]}
    assert frozen not in grouped


def test_one_rate_drives_all_groups(encoder):
    config = config_of(name="muon", muon_lr=1e-2, peak_lr=1e-3)
    optimizers = build_optimizers(encoder.named_parameters(), config)
    set_lr(optimizers, 5e-4)
    rates = [group["lr"] for one in optimizers for group in one.param_groups]
    assert rates == pytest.approx([5e-3, 5e-4, 5e-4])


def test_settings_reach_the_optimizers(encoder):
    config = config_of(
        name="muon", momentum=0.8, adamw_beta1=0.7, adamw_beta2=0.9, adamw_eps=1e-5, adamw_wd=0.2
    )
    muon, adamw = build_optimizers(encoder.named_parameters(), config)
    assert muon.defaults["momentum"] == 0.8
    assert muon.defaults["weight_decay"] == 0.2
    assert adamw.defaults["betas"] == (0.7, 0.9)
    assert adamw.defaults["eps"] == 1e-5


@pytest.fixture(params=KINDS)
def trained(request):
    """A module with a matrix in a layer, one outside and a bias; and its optimizers."""
    torch.manual_seed(0)
    module = torch.nn.ModuleDict(
        {
            "layers": torch.nn.ModuleList([torch.nn.Linear(6, 6)]),
            "head": torch.nn.Linear(6, 3),
        }
    )
    named = [(f"x.{name}", parameter) for name, parameter in module.named_parameters()]
    return module, build_optimizers(named, config_of(**KINDS[request.param]))


def give_gradients(module, seed, value=None):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    if value is not None:
        next(module.parameters()).grad[0, 0] = value


def snapshot(module, optimizers):
    """Every weight and every state tensor, copied."""
    state = [
        (key, value.clone())
        for one in optimizers
        for entry in one.state.values()
        for key, value in sorted(entry.items())
        if isinstance(value, torch.Tensor)
    ]
    return [p.detach().clone() for p in module.parameters()], state


def assert_same(one, other):
    assert len(one[1]) == len(other[1])
    for before, after in zip(one[0], other[0], strict=True):
        assert torch.equal(before, after)
    for (key, before), (_, after) in zip(one[1], other[1], strict=True):
        assert torch.equal(before, after), key


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_skipped_step_changes_neither_weights_nor_state(trained, value):
    module, optimizers = trained
    for step in range(3):
        give_gradients(module, step)
        for one in optimizers:
            step_unless(torch.tensor(False), one)
    before = snapshot(module, optimizers)
    give_gradients(module, 9, value)
    for one in optimizers:
        step_unless(torch.tensor(True), one)
    assert_same(before, snapshot(module, optimizers))


def test_a_skipped_first_step_leaves_the_run_as_if_it_had_not_been(trained):
    module, optimizers = trained
    weights = snapshot(module, optimizers)[0]
    give_gradients(module, 0, float("nan"))
    for one in optimizers:
        step_unless(torch.tensor(True), one)
    assert all(torch.equal(a, b) for a, b in zip(weights, module.parameters(), strict=True))
    for one in optimizers:
        tensors = [v for entry in one.state.values() for v in entry.values()]
        assert all(not value.any() for value in tensors if isinstance(value, torch.Tensor))


def test_a_step_that_is_not_skipped_is_the_optimizers_own(trained):
    module, optimizers = trained
    reference = torch.nn.ModuleDict(
        {"layers": torch.nn.ModuleList([torch.nn.Linear(6, 6)]), "head": torch.nn.Linear(6, 3)}
    )
    reference.load_state_dict(module.state_dict())
    named = [(f"x.{name}", parameter) for name, parameter in reference.named_parameters()]
    kind = {"name": "muon" if len(optimizers) == 2 else "adamw"}
    others = build_optimizers(named, config_of(**kind, fused=optimizers[-1].defaults["fused"]))
    for step in range(4):
        give_gradients(module, step)
        give_gradients(reference, step)
        for one, other in zip(optimizers, others, strict=True):
            step_unless(torch.tensor(False), one)
            other.step()
    assert_same(snapshot(module, optimizers), snapshot(reference, others))
