import pytest
import torch
from torch import nn

from kl3m_embeddings.encoder.kernels import dropout
from kl3m_embeddings.encoder.kernels.dropout import (
    Dropout,
    TokenKeys,
    at_site,
    bits_of_heads,
    contexts_of_recomputation,
    drop_below,
    dropped_out,
    half_mixed,
    is_dropped,
    kept_scale,
    keyed_by,
    keys_in_force,
    mixed,
    site_keys,
    token_bits,
)

WORD = 2**32 - 1
ROWS = torch.tensor([3, -(2**62), 2**40 + 7, 12345678901])
STEP = torch.tensor([99])


def keys_of(rows=ROWS, length=6):
    return TokenKeys.of(rows, STEP, length)


def in_words(bits):
    """`mixed` in whole numbers, from its author's C."""
    bits = (bits ^ bits >> 16) * 0x7FEB352D & WORD
    bits = (bits ^ bits >> 15) * 0x846CA68B & WORD
    return bits ^ bits >> 16


def test_the_hash_is_its_authors():
    numbers = [0, 1, 2, 12345, 2**31 - 1, 2**31, 2**32 - 1]
    found = mixed(torch.tensor([number - (number >> 31 << 32) for number in numbers]).int())
    assert [one & WORD for one in found.tolist()] == [in_words(number) for number in numbers]


def test_the_mask_follows_its_formula():
    """In whole numbers: row key, position, site, head, column."""
    keys = keys_of()
    bits = bits_of_heads(at_site(keys.tokens, 5), 3)
    mask = is_dropped(bits.flatten(), 40, 0.3).view(4, 3, 6, 40)
    for row, head, position, column in [(0, 0, 0, 0), (1, 2, 5, 39), (3, 1, 4, 17)]:
        key = ROWS[row].item()
        token = in_words(in_words((key & WORD) + position & WORD) ^ (key >> 32 & WORD))
        drawn = in_words(token + 5 * 0x9E3779B9 + head & WORD)
        number = (drawn ^ in_words(column)) * 0x7FEB352D & WORD
        number = (number ^ number >> 15) * 0x846CA68B & WORD
        assert mask[row, head, position, column].item() == ((number + 2**31 & WORD) < 0.3 * 2**32)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_the_share_and_the_mean_are_right(p):
    torch.manual_seed(0)
    states = torch.ones(1000, 401, requires_grad=True)
    output = Dropout(p)(states)
    assert (output == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert output.mean().item() == pytest.approx(1, abs=0.01)
    assert output.max().item() == pytest.approx(1 / (1 - p))
    output.sum().backward()
    assert torch.equal(states.grad, output.detach())


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_neighbouring_tokens_heads_columns_and_sites_are_independent(p):
    generator = torch.Generator().manual_seed(0)
    keys = TokenKeys.of(torch.randint(-(2**62), 2**62, (16,), generator=generator), STEP, 32)
    sites = torch.stack([bits_of_heads(at_site(keys.tokens, site), 4) for site in range(4)])
    mask = is_dropped(sites.flatten(), 64, p).view(4, 16, 4, 32, 64).double() - p
    deviation = (p * (1 - p)) ** 0.5
    assert abs(mask.mean().item()) < 4 * deviation / mask.numel() ** 0.5
    for dim in range(mask.ndim):
        for distance in (1, 2):
            size = mask.shape[dim] - distance
            products = mask.narrow(dim, 0, size) * mask.narrow(dim, distance, size)
            assert abs(products.mean().item()) < 4 * deviation**2 / products.numel() ** 0.5


def test_the_mask_follows_the_whole_key():
    keys = [0, 1, 2**32, -1]
    masks = [
        is_dropped(token_bits(torch.tensor([k]), torch.arange(64).int()), 64, 0.5) for k in keys
    ]
    for number, one in enumerate(masks):
        for other in masks[:number]:
            assert (one == other).double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_without_keys_it_follows_torchs_seed_and_rests_in_evaluation():
    module, states = Dropout(0.1), torch.ones(10, 500)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(module(states))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert module.eval()(states) is states
    assert Dropout(0.0)(states) is states


def passed(module, keys, shape, positions=None):
    with keyed_by(keys):
        return module(torch.ones(shape), positions)


@pytest.mark.parametrize("inner", [(10,), (2, 5), ()], ids=str)
def test_a_tokens_mask_depends_neither_on_its_batch_nor_on_the_padding(inner):
    module = Dropout(0.5)
    whole = passed(module, keys_of(), (4, 6, *inner))
    assert 0 < whole.count_nonzero() < whole.numel()
    some = passed(module, keys_of(ROWS[[3, 1]], 4), (2, 4, *inner))
    assert torch.equal(some, whole[[3, 1], :4])


def test_weights_of_attention_are_dropped_for_their_query_head_and_key():
    module = Dropout(0.5)
    whole = passed(module, keys_of(), (4, 3, 6, 6))
    some = passed(module, keys_of(ROWS[[2]], 5), (1, 3, 5, 5))
    assert torch.equal(some, whole[[2], :, :5, :5])
    assert len(whole.flatten(0, 2).unique(dim=0)) > 30


def test_tokens_at_positions_and_tokens_moved_keep_their_masks():
    module, positions = Dropout(0.5), torch.tensor([20, 3, 4])
    whole = passed(module, keys_of(), (4, 6, 10)).flatten(0, 1)
    assert torch.equal(passed(module, keys_of(), (3, 10), positions), whole[positions])
    moved = keys_of().at(positions)
    assert torch.equal(passed(module, moved, (1, 3, 10))[0], whole[positions])


def test_what_is_of_rows_or_of_none_has_their_masks():
    module = Dropout(0.5)
    of_rows = passed(module, keys_of(), (4, 50))
    assert torch.equal(passed(module, keys_of(ROWS[[2]]), (1, 50)), of_rows[[2]])
    tables = []
    for rows in (ROWS, ROWS[:1]):
        with keyed_by(keys_of(rows)):
            tables.append(module.shared(torch.ones(30, 8)))
    assert torch.equal(*tables)
    assert len(tables[0].unique(dim=0)) > 20
    # the same without being told, where no dimension is that of the batch
    assert torch.equal(passed(module, keys_of(), (30, 8)), tables[0])


def test_each_site_of_a_pass_has_masks_of_its_own_and_a_second_pass_the_same():
    module = Dropout(0.5)
    passes = []
    for _ in range(2):
        with keyed_by(keys_of()):
            passes.append([module(torch.ones(4, 6, 10)) for _ in range(3)])
    for one, other in zip(*passes, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(passes[0][0], passes[0][1])
    assert not torch.equal(passes[0][1], passes[0][2])


def test_recomputation_goes_on_from_the_site_where_it_began():
    module, states = Dropout(0.5), torch.ones(4, 6, 10)
    with keyed_by(keys_of()):
        module(states)
        first, again = contexts_of_recomputation()
        with first:
            wanted = module(states), module(states)
        following = module(states)
    with again:
        assert all(map(torch.equal, (module(states), module(states)), wanted))
        assert torch.equal(module(states), following)
    assert keys_in_force() is None


def test_a_batch_in_chunks_has_the_mask_of_the_whole(monkeypatch):
    rows = mixed(torch.arange(40, dtype=torch.int32))
    whole = is_dropped(rows, 33, 0.4)
    monkeypatch.setattr(dropout, "ELEMENTS_AT_ONCE", 100)
    assert torch.equal(is_dropped(rows, 33, 0.4), whole)


@pytest.mark.parametrize("function", [Dropout(1.0), Dropout(1.0).shared])
def test_where_all_is_dropped_nothing_is_left(function):
    """As nn.Dropout(1) does; not a division by zero."""
    states = torch.ones(4, 6, 10, requires_grad=True)
    with keyed_by(keys_of()):
        output = function(states)
    assert not output.any()
    output.sum().backward()
    assert not states.grad.any()
    assert (kept_scale(1.0), drop_below(1.0)) == (0.0, 2**31 - 1)
    assert torch.equal(nn.Dropout(1.0)(states), output)


def test_halves_of_the_hash_change_nothing_but_their_argument():
    bits = torch.arange(5, dtype=torch.int32)
    before = bits.clone()
    mixed(bits)
    assert torch.equal(bits, before)
    assert half_mixed(bits) is bits


def test_a_site_asks_for_the_batch_that_the_keys_are_of():
    with keyed_by(keys_of()):
        assert site_keys(torch.empty(4, 6, 2, 8)).shape == (4, 6)
        with pytest.raises(AssertionError):
            site_keys(torch.empty(4, 5, 2, 8))
    states = torch.ones(2, 3)
    assert torch.equal(dropped_out(states, mixed(torch.arange(2).int()), 0.0), states)
