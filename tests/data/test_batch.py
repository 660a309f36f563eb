import pytest
import torch

from kl3m_embeddings.data.batch import Batch, BatchInfo, PairTargets

INFO = BatchInfo(task="x", samples_by_dataset={}, tokens_by_dataset={}, documents={})


def batch_of(lengths, width, **fields):
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    input_ids = torch.arange(len(lengths) * width).reshape(len(lengths), width) * mask
    return Batch(input_ids=input_ids, attention_mask=mask, info=INFO, **fields)


def test_a_batch_without_parts_is_one_pass_of_its_whole_width():
    assert batch_of([2, 5, 1], 8).shapes() == [(3, 8)]


def test_each_part_is_as_long_as_its_longest_row():
    parts = (torch.tensor([1]), torch.tensor([0, 2]))
    assert batch_of([2, 5, 1], 8, parts=parts).shapes() == [(1, 5), (2, 2)]


def test_rows_are_cut_to_the_longest_of_them():
    batch = batch_of([2, 5, 1], 8, parts=(torch.arange(3),), pair_targets=PairTargets())
    batch = batch.with_dropout(7, 0, 3)
    part = batch.rows(torch.tensor([2, 0]))
    assert part.input_ids.tolist() == [[16, 0], [0, 1]]
    assert part.attention_mask.tolist() == [[1, 0], [1, 1]]
    assert (part.parts, part.pair_targets, part.trains) == ((), None, True)
    assert torch.equal(part.row_keys, batch.row_keys[[2, 0]])
    assert not batch.without_dropout().rows(torch.tensor([1])).trains


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5, 8])
def test_more_parts_have_the_same_rows_in_their_order(num_parts):
    parts = (torch.arange(5), torch.arange(5, 8))
    found = batch_of([1] * 8, 4, parts=parts).with_parts(num_parts).parts
    assert len(found) == max(num_parts, 2)
    assert torch.cat(found).tolist() == list(range(8))
    sizes = [len(part) for part in found]
    assert max(sizes) <= {1: 5, 2: 5, 3: 3, 5: 2, 8: 1}[num_parts]


def test_packed_rows_attend_within_their_documents():
    """Two rows of 8: documents of 3, 5 and 8 tokens, and two empty fillers."""
    bounds = torch.tensor([[0, 3], [3, 8], [8, 16], [0, 0], [0, 0]])
    assert batch_of([8, 8], 8, bounds=bounds).attention_length(8) == (9 + 25 + 64) / 16
    assert batch_of([8, 8], 8).attention_length(6) == 6.0


def test_targets_are_counted_with_those_that_fill():
    assert batch_of([2], 4).num_targets == 0
    assert batch_of([2], 4, target_positions=torch.tensor([1, 0, 0])).num_targets == 3


def test_every_tensor_goes_along():
    """The `meta` device stands for any other: what is left behind stays on the CPU."""
    targets = PairTargets(labels=torch.ones(2), text_groups=torch.zeros(2, 2, dtype=torch.long))
    batch = batch_of(
        [2, 3],
        4,
        target_positions=torch.tensor([1]),
        target_labels=torch.tensor([5]),
        bounds=torch.tensor([[0, 2]]),
        segment_labels=torch.ones(2),
        embedding_mask=torch.ones(6),
        pair_targets=targets,
        counts={"mlm": 1},
    )
    moved = batch.to(torch.device("meta"))
    tensors = {name: one for name, one in vars(moved).items() if isinstance(one, torch.Tensor)}
    assert tensors.keys() == {
        "input_ids", "attention_mask", "target_positions", "target_labels", "bounds",
        "segment_labels", "embedding_mask",
    }  # fmt: skip
    assert all(one.is_meta for one in tensors.values())
    assert (moved.counts, moved.info) == ({"mlm": 1}, INFO)
    pairs = targets.to(torch.device("meta"))
    assert pairs.labels.is_meta
    assert pairs.text_groups.is_meta
    assert pairs.teacher_scores is None
