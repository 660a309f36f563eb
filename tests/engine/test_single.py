import pytest
import torch

from kl3m_embeddings.engine.base import Engine
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.engine.state_files import read_tensors, write_state
from tests.engine.optimizers import OPTIMIZERS
from tests.tiny_model import NO_DROPOUT

NO_LIMIT = torch.tensor(1e9)


def go_backward(engine, batch):
    outputs = engine.forward(batch)
    engine.backward(sum(outputs.loss_sums.values()) / 10, last=True)
    return outputs


def gradients(engine):
    return {n: p.grad for n, p in engine.objective.named_parameters() if p.grad is not None}


def snapshot(engine):
    """Everything that a run would carry on: weights, heads and optimizer state."""
    return [
        {name: tensor.clone() for name, tensor in tensors.items()}
        for tensors in (engine.weights(), engine.optimizer_state())
    ]


def assert_same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name


def test_it_is_an_engine(make_engine):
    assert isinstance(make_engine(), Engine)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_gradient_changes_nothing_and_is_reported(make_engine, batches, kind, value):
    engine = make_engine(kind)
    for batch in batches[:2]:
        go_backward(engine, batch)
        assert not engine.step(1e-3, NO_LIMIT).skipped
    before = snapshot(engine)
    go_backward(engine, batches[2])
    name = "encoder.network.deberta.encoder.layer.1.attention.self.query_proj.weight"
    dict(engine.objective.named_parameters())[name].grad[0, 0] = value
    result = engine.step(1e-3, NO_LIMIT)
    assert result.skipped
    assert not result.norm.isfinite()
    assert not gradients(engine)
    assert_same(before, snapshot(engine))
    go_backward(engine, batches[3])
    assert not engine.step(1e-3, NO_LIMIT).skipped  # and the run goes on
    assert all(tensor.isfinite().all() for tensor in engine.weights().values())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_saved_and_loaded_goes_on_bit_for_bit(make_engine, batches, tmp_path, kind):
    whole = make_engine(kind)
    for batch in batches:
        go_backward(whole, batch)
        whole.step(1e-3, NO_LIMIT)
    first = make_engine(kind)
    for batch in batches[:3]:
        go_backward(first, batch)
        first.step(1e-3, NO_LIMIT)
    weights, state = first.weights(), dict(first.optimizer_state())
    heads = {name: one for name, one in weights.items() if not name.startswith("encoder.")}
    write_state(tmp_path, {"step": 3}, {"heads": heads, "optimizer": state})
    second = make_engine(kind, seed=99)
    second.objective.encoder.load_state_dict(first.objective.encoder.state_dict())
    tensors = read_tensors(tmp_path, ["heads", "optimizer"])
    second.load(tensors["heads"], tensors["optimizer"])
    for batch in batches[3:]:
        go_backward(second, batch)
        second.step(1e-3, NO_LIMIT)
    assert_same(snapshot(second), snapshot(whole))


@pytest.mark.parametrize("limit", [0.01, 1e9])
def test_gradients_are_clipped_to_the_norm(make_engine, batches, limit):
    engine = make_engine()
    parameters = [p for p in engine.objective.parameters() if p.requires_grad]
    sgd = torch.optim.SGD([{"params": parameters, "lr_scale": 1.0}], lr=1.0)
    engine = SingleEngine(engine.objective, [sgd], device=engine.device, precision="float32")
    go_backward(engine, batches[0])
    before = {name: tensor.clone() for name, tensor in engine.weights().items()}
    expected = {name: grad.clone() for name, grad in gradients(engine).items()}
    norm = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    result = engine.step(0.5, torch.tensor(limit))
    assert result.norm == pytest.approx(norm.item(), rel=1e-5)
    factor = min(1.0, limit / norm.item())
    for name, grad in expected.items():
        moved = before[name] - engine.weights()[name]
        torch.testing.assert_close(moved, 0.5 * factor * grad, rtol=1e-3, atol=1e-6)


def test_backward_adds_until_a_step_clears(make_engine, batches):
    engine = make_engine(**NO_DROPOUT)
    go_backward(engine, batches[0])
    once = {name: grad.clone() for name, grad in gradients(engine).items()}
    go_backward(engine, batches[0])
    for name, grad in gradients(engine).items():
        torch.testing.assert_close(grad, 2 * once[name])
    engine.step(1e-3, NO_LIMIT)
    assert not gradients(engine)


def test_dropout_is_a_function_of_the_batch(make_engine, batches):
    engine = make_engine()
    losses = [engine.forward(batches[0], grad=False).target_losses for _ in range(2)]
    assert torch.equal(*losses)
    other = batches[0].with_dropout(7, 0, 4)
    assert not torch.equal(losses[0], engine.forward(other, grad=False).target_losses)


def test_without_a_seed_there_is_no_dropout_and_no_random_number(make_engine, batches):
    engine = make_engine()
    batch = batches[0].without_dropout()
    before = torch.get_rng_state()
    losses = [engine.forward(batch, grad=False).target_losses for _ in range(2)]
    assert torch.equal(*losses)
    assert torch.equal(torch.get_rng_state(), before)
    assert not losses[0].requires_grad
    plain = make_engine(**NO_DROPOUT).forward(batches[0], grad=False)
    torch.testing.assert_close(losses[0], plain.target_losses)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.06)])
def test_half_precision_gradients_are_near_those_of_float32(
    make_engine, batches, precision, tolerance
):
    norms = {}
    for name in ("float32", precision):
        engine = make_engine(precision=name, **NO_DROPOUT)
        go_backward(engine, batches[0])
        assert all(grad.dtype == torch.float32 for grad in gradients(engine).values())
        result = engine.step(1e-3, torch.tensor(1.0))
        assert not result.skipped
        norms[name] = result.norm.item()
        assert all(tensor.dtype == torch.float32 for tensor in engine.weights().values())
    assert norms[precision] == pytest.approx(norms["float32"], rel=tolerance)


@pytest.mark.parametrize("limit", [0.05, 1e9])
def test_the_loss_scale_of_float16_leaves_no_trace(make_engine, batches, limit):
    """The same update as in float32, clipped or not: the scale is undone before the optimizer."""
    moved = {}
    for precision in ("float32", "float16"):
        engine = make_engine(precision=precision, **NO_DROPOUT)
        parameters = list(engine.objective.parameters())
        sgd = torch.optim.SGD([{"params": parameters, "lr_scale": 1.0}], lr=1.0)
        engine = SingleEngine(engine.objective, [sgd], device=engine.device, precision=precision)
        before = torch.cat([p.detach().flatten() for p in parameters])
        go_backward(engine, batches[0])
        engine.step(1.0, torch.tensor(limit))
        moved[precision] = torch.cat([p.detach().flatten() for p in parameters]) - before
    difference = (moved["float16"] - moved["float32"]).norm() / moved["float32"].norm()
    assert difference < 0.03
