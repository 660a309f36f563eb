"""Two processes: this one is rank 0, and starts rank 1."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch import nn

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.gather import first_row, gather
from kl3m_embeddings.losses.gradcache import cached_gradients
from kl3m_embeddings.losses.infonce import InfoNCE

COLUMNS, PAIRS, DIM = 3, 4, 6
OPTIONS = {"symmetric": True, "learn_temperature": True, "false_negative_margin": 0.1}


def whole_batch():
    """What both ranks' pairs are together; some texts of one rank are found on the other."""
    torch.manual_seed(0)
    embeddings = torch.randn(COLUMNS, 2 * PAIRS, DIM)
    ids = torch.arange(COLUMNS * 2 * PAIRS).remainder(17).reshape(COLUMNS, 2 * PAIRS)
    guides = torch.randn(COLUMNS, 2 * PAIRS, 5)
    return embeddings, PairTargets(text_groups=ids, guide_embeddings=guides)


def shard(rank):
    embeddings, targets = whole_batch()
    mine = slice(rank * PAIRS, (rank + 1) * PAIRS)
    return embeddings[:, mine], PairTargets(
        text_groups=targets.text_groups[:, mine], guide_embeddings=targets.guide_embeddings[:, mine]
    )


def run_rank(rank, store):
    """What data-parallel training makes of the two shards; all ranks get the same results."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    embeddings, targets = shard(rank)
    results = {"rows": gather(torch.tensor([rank, 10 + rank])), "first_row": first_row(2)}
    encoder, loss = nn.Linear(DIM, DIM, bias=False), InfoNCE(**OPTIONS)
    nn.init.eye_(encoder.weight)
    value = loss(encoder(embeddings), targets)
    value.backward()
    cached = cached_gradients(loss, encoder(embeddings), targets)
    alone = InfoNCE(**OPTIONS, cross_device=False)(encoder(embeddings), targets)
    summed = {
        "loss": value.detach(),
        "weight": encoder.weight.grad,
        "temperature": loss.raw_temperature.grad,
        "cached_loss": cached.loss,
        "cached_weight": torch.einsum("cpi,cpj->ij", cached.embeddings, embeddings),
        "cached_temperature": cached.parameters["raw_temperature"],
        "alone": alone.detach(),
    }
    for tensor in summed.values():
        dist.all_reduce(tensor)
    dist.destroy_process_group()
    return results | {name: tensor / 2 for name, tensor in summed.items()}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    store = tmp_path_factory.mktemp("ranks") / "store"
    other = multiprocessing.get_context("spawn").Process(target=run_rank, args=(1, store))
    other.start()
    yield run_rank(0, store)
    other.join()
    assert other.exitcode == 0


@pytest.fixture(scope="module")
def one_device():
    embeddings, targets = whole_batch()
    encoder, loss = nn.Linear(DIM, DIM, bias=False), InfoNCE(**OPTIONS)
    nn.init.eye_(encoder.weight)
    value = loss(encoder(embeddings), targets)
    value.backward()
    return {
        "loss": value.detach(),
        "weight": encoder.weight.grad,
        "temperature": loss.raw_temperature.grad,
    }


def test_rows_come_in_the_order_of_ranks(two_ranks):
    assert two_ranks["rows"].tolist() == [0, 10, 1, 11]
    assert two_ranks["first_row"] == 0


def test_on_one_device_nothing_happens():
    tensor = torch.randn(3, 2, requires_grad=True)
    assert gather(tensor) is tensor
    assert first_row(3) == 0


@pytest.mark.parametrize("name", ["loss", "weight", "temperature"])
@pytest.mark.parametrize("cached", ["", "cached_"])
def test_two_devices_train_as_one_with_both_batches(two_ranks, one_device, name, cached):
    torch.testing.assert_close(two_ranks[cached + name], one_device[name], rtol=1e-5, atol=1e-6)


def test_devices_can_keep_to_themselves(two_ranks):
    shards = [InfoNCE(**OPTIONS)(*shard(rank)) for rank in (0, 1)]
    torch.testing.assert_close(two_ranks["alone"], sum(shards).detach() / 2)
