"""Tasks of mteb that are made of tasks: their score is the mean of their parts'."""

from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate


def parts_of(task: AbsTask) -> list[AbsTask]:
    """The task, and the parts that an aggregate has, theirs included."""
    inner = task.tasks if isinstance(task, AbsTaskAggregate) else ()
    return [task, *(one for part in inner for one in parts_of(part))]


def tasks_with_data(task: AbsTask) -> list[AbsTask]:
    """The task itself, or those of its parts that are no aggregates."""
    return [part for part in parts_of(task) if not isinstance(part, AbsTaskAggregate)]
