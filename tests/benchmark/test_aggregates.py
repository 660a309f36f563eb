"""Tasks made of tasks: by their classes alone, and one of mteb's."""

import pytest


@pytest.fixture
def nested(bench):
    """A function: an aggregate of these parts, and nothing else of one."""
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    class Aggregate(AbsTaskAggregate):
        def __init__(self, *parts):
            self.tasks = parts

    return Aggregate


def test_a_plain_task_is_its_only_part(bench):
    task = bench.mteb.get_task("STS12")
    assert bench.aggregates.parts_of(task) == bench.aggregates.tasks_with_data(task) == [task]


def test_the_parts_of_parts_are_among_them_and_only_leaves_have_data(bench, nested):
    one, two, three = (bench.mteb.get_task(name) for name in ("STS12", "STS13", "STS14"))
    inner = nested(two, three)
    outer = nested(one, inner)
    assert bench.aggregates.parts_of(outer) == [outer, one, inner, two, three]
    assert bench.aggregates.tasks_with_data(outer) == [one, two, three]


def test_an_aggregate_of_mteb_has_the_data_of_its_tasks(bench):
    from mteb.mocks.mock_tasks.reranking import MockAggregatedTask

    task = MockAggregatedTask()
    assert len(task.tasks) > 1
    assert bench.aggregates.tasks_with_data(task) == list(task.tasks)
