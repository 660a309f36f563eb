from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.config.tasks import TasksConfig
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.losses.base import Compared
from kl3m_embeddings.tasks import TASKS
from kl3m_embeddings.tasks.base import TextLimits
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.plan import PlannedTask, Planner, embedding_mask, reduced_dims

EQUAL = {"mlm": 0.25, "nsp": 0.25, "nlp": 0.25, "mhm": 0.25}


@pytest.fixture
def make_planner(make_sources):
    """A function that makes a planner of a tiny run; keyword arguments replace its settings."""

    def make(tasks=None, *, batch_size=4, **changes):
        source = make_sources()[0]

        def planned(name, options):
            limits = TextLimits(max_length=32, part_tokens=4096)
            task = TASKS[name].create(options, limits, Compared())
            return PlannedTask(task, source, options.probability, batch_size)

        chosen = TasksConfig.model_validate(tasks or EQUAL).chosen()
        settings = {
            "tasks": {name: planned(name, options) for name, options in chosen.items()},
            "seed": source.seed,
            "hidden_size": 32,
            "accumulation": 1,
            "matroyshka_probability": 0.5,
            "matroyshka_min_log2": 2,
        }
        return Planner(**settings | changes)

    return make


def labels_of(batch):
    """The target at every place, of shape (batch, length)."""
    labels = torch.full(batch.input_ids.shape, IGNORED_LABEL)
    labelled = batch.target_labels != IGNORED_LABEL
    labels.view(-1)[batch.target_positions[labelled]] = batch.target_labels[labelled]
    return labels


def joined(batches, of):
    return torch.cat([of(batch) for batch in batches])


@pytest.mark.parametrize("task", list(EQUAL))
@pytest.mark.parametrize("world_size", [2, 4])
def test_the_ranks_slices_make_up_the_batch_of_one_rank(make_planner, task, world_size):
    for step in (1, 2, 37):
        whole = make_planner({task: 1.0}, batch_size=8, accumulation=2).plan(step)
        ranks = [
            make_planner(
                {task: 1.0},
                batch_size=8 // world_size,
                accumulation=2,
                rank=rank,
                world_size=world_size,
            ).plan(step)
            for rank in range(world_size)
        ]
        for micro_step, batch in enumerate(whole.batches):
            slices = [rank.batches[micro_step] for rank in ranks]
            assert torch.equal(joined(slices, lambda b: b.input_ids), batch.input_ids)
            assert torch.equal(joined(slices, lambda b: b.attention_mask), batch.attention_mask)
            assert torch.equal(joined(slices, labels_of), labels_of(batch))
            if batch.segment_labels is not None:
                pairs = joined(slices, lambda b: b.segment_labels)
                assert torch.equal(pairs.nan_to_num(9), batch.segment_labels.nan_to_num(9))
        sums = sum((Counter(rank.counts) for rank in ranks), Counter())
        assert sums == Counter(whole.counts)
        assert {(rank.task, rank.reduced_dim) for rank in ranks} == {(task, whole.reduced_dim)}


@pytest.mark.parametrize("task", list(EQUAL))
def test_micro_batches_make_up_the_batch_of_the_same_size(make_planner, task):
    whole = make_planner({task: 1.0}, batch_size=6).plan(5)
    parts = make_planner({task: 1.0}, batch_size=2, accumulation=3).plan(5)
    assert torch.equal(joined(parts.batches, lambda b: b.input_ids), whole.batches[0].input_ids)
    assert torch.equal(joined(parts.batches, labels_of), labels_of(whole.batches[0]))
    assert parts.counts == whole.counts


def test_a_plan_is_a_pure_function_of_its_step(make_planner):
    planner = make_planner(accumulation=2)
    in_order = list(planner.plans(1, 12))
    assert [plan.step for plan in in_order] == list(range(1, 13))
    for step in (12, 3, 7):
        again, before = make_planner(accumulation=2).plan(step), in_order[step - 1]
        assert (again.task, again.reduced_dim) == (before.task, before.reduced_dim)
        for one, other in zip(again.batches, before.batches, strict=True):
            assert torch.equal(one.row_keys, other.row_keys)
            assert torch.equal(one.input_ids, other.input_ids)


def test_no_sample_is_left_out_or_used_twice(make_planner):
    planner = make_planner({"mlm": 1.0}, accumulation=2, world_size=2)
    ranks = [replace(planner, rank=rank) for rank in range(2)]
    seen = []

    class Recorded(MaskedLanguageModelling):
        def batch(self, source, first, count):
            seen.extend(range(first, first + count))
            return super().batch(source, first, count)

    mlm = planner.tasks["mlm"]
    recorded = replace(mlm, task=Recorded(mlm.task.options))
    for rank in ranks:
        list(replace(rank, tasks={"mlm": recorded}).plans(1, 5))
    assert sorted(seen) == list(range(5 * 2 * 2 * 4))


def test_every_row_of_every_step_has_its_own_dropout(make_planner):
    planners = [make_planner(accumulation=2, world_size=2, rank=rank) for rank in range(2)]
    batches = [b for p in planners for plan in p.plans(1, 10) for b in plan.batches]
    keys = [key for batch in batches for key in batch.row_keys.tolist()]
    assert len(set(keys)) == len(keys) == 40 * 4


@pytest.mark.parametrize("task", ["mlm", "nsp", "simcse"])
def test_dropout_of_a_row_is_the_same_in_each_micro_batch_and_on_each_device(make_planner, task):
    """Of a batch with several rows a sample, too: one column of them after another."""
    whole = make_planner({task: 1.0}, batch_size=8).plan(5).batches[0]
    cut = [
        make_planner({task: 1.0}, batch_size=2, accumulation=2, world_size=2, rank=rank)
        for rank in range(2)
    ]
    parts = [planner.plan(5).batches for planner in cut]
    slices = [parts[rank][index] for index in range(2) for rank in range(2)]
    by_sample = torch.cat([part.row_keys.view(-1, 2) for part in slices], dim=1)
    assert torch.equal(by_sample, whole.row_keys.view(-1, 8))
    assert all(torch.equal(part.step_key, whole.step_key) for part in slices)


NUM_DRAWS = 3000


def draws(planner, count=NUM_DRAWS):
    return [planner._draw(step) for step in range(1, count + 1)]


def test_tasks_come_with_their_probabilities(make_planner):
    shares = {"mlm": 0.7, "nsp": 0.2, "mhm": 0.1}
    counts = Counter(task for task, _ in draws(make_planner(shares)))
    for task, share in shares.items():
        assert counts[task] / NUM_DRAWS == pytest.approx(share, abs=0.02)


def test_reduced_dim_is_drawn_once_with_its_probability(make_planner):
    """Drawn twice, 0.5 would become 0.75."""
    drawn = draws(make_planner(matroyshka_probability=0.5, hidden_size=256, matroyshka_min_log2=3))
    counts = Counter(dim for _, dim in drawn)
    assert counts[None] / NUM_DRAWS == pytest.approx(0.5, abs=0.02)
    assert set(counts) == {None, 8, 16, 32, 64, 128}
    for dim in (8, 16, 32, 64, 128):
        assert counts[dim] / NUM_DRAWS == pytest.approx(0.1, abs=0.015)
    # and without regard to the task
    share = Counter(dim is None for task, dim in drawn if task == "nsp")
    assert share[True] / sum(share.values()) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {True}), (1.0, {False})])
def test_reduced_dim_never_and_always(make_planner, probability, expected):
    drawn = draws(make_planner(matroyshka_probability=probability), 500)
    assert {dim is None for _, dim in drawn} == expected


@given(st.integers(4, 5000), st.integers(0, 14))
def test_reduced_dims_are_powers_of_two_below_the_width(hidden_size, min_log2):
    dims = reduced_dims(hidden_size, min_log2)
    assert all(dim & (dim - 1) == 0 and 1 <= dim <= hidden_size for dim in dims)
    assert dims == sorted(set(dims))
    if 2 ** (min_log2 + 1) <= hidden_size:
        assert dims[0] == 2**min_log2
        assert dims[-1] * 2 <= hidden_size < dims[-1] * 4


def test_the_mask_keeps_the_first_dimensions():
    assert embedding_mask(8, None) is None
    assert embedding_mask(8, 2).tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_all_micro_batches_of_a_step_have_its_mask(make_planner):
    planner = make_planner(accumulation=3, matroyshka_probability=1.0)
    for plan in planner.plans(1, 5):
        for batch in plan.batches:
            assert batch.embedding_mask.sum() == plan.reduced_dim


def test_an_embedding_task_numbers_its_samples_by_its_own_steps(make_planner):
    planner = make_planner({"mlm": 0.5, "simcse": 0.5}, accumulation=2)
    firsts = []

    class Recorded(type(planner.tasks["simcse"].task)):
        def columns(self, source, first_sample, count):
            firsts.append(first_sample)
            return super().columns(source, first_sample, count)

    task = planner.tasks["simcse"].task
    task.__class__ = Recorded
    drawn = [plan.task for plan in planner.plans(1, 20)]
    assert firsts == list(range(0, drawn.count("simcse") * 2 * 4, 4))
    assert 0 < drawn.count("simcse") < 20


def test_the_steps_of_a_task_are_counted_over_many_periods(make_planner, monkeypatch):
    monkeypatch.setattr("kl3m_embeddings.tasks.plan.COUNTED_STEPS", 256)
    planner = make_planner({"mlm": 0.3, "simcse": 0.7})
    drawn = [planner._draw(step)[0] for step in range(1, 601)]
    for step in (1, 2, 255, 256, 257, 512, 513, 600):
        for name in ("mlm", "simcse"):
            assert planner._num_steps_before(step, name) == drawn[: step - 1].count(name)


def test_an_embedding_task_has_no_reduced_dim(make_planner):
    drawn = draws(make_planner({"mlm": 0.5, "simcse": 0.5}, matroyshka_probability=1.0), 200)
    assert {(task, dim is None) for task, dim in drawn} == {("mlm", False), ("simcse", True)}
