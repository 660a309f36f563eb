"""Three ranks in child processes over gloo, and one that is alone."""

import json
import multiprocessing

import pytest
import torch.distributed as dist

from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.errors import ConfigError, DataError, OtherRankError

WORLD_SIZE = 3
SAID = [{"rank": 0}, "é" * 500, None]


def ended(ranks, error):
    """How this rank leaves where some raise: the error's class, its code and its message."""
    try:
        with ranks.together():
            if error is not None:
                raise error
    except Exception as raised:  # noqa: BLE001 - it is what is looked at
        return [type(raised).__name__, getattr(raised, "exit_code", None), str(raised)]
    return None


def made_in_turn(ranks, folder):
    """The first rank of a machine writes a file that the others find."""
    path = folder / "built"

    def make():
        found = path.exists()
        path.touch()
        return found

    return ranks.in_turn(make)


def conversation(rank, folder):
    """Everything that ranks can tell each other; written to a file by each."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD_SIZE
    )
    ranks = Ranks(rank=rank, local_rank=rank, world_size=WORLD_SIZE, group=dist.group.WORLD)
    heard = {
        "gathered": ranks.gather(SAID[rank]),
        "sums": ranks.sums([rank, 2**40, -rank]),
        "largest": ranks.largest(10 - rank),
        "any": ranks.any(rank == 2),
        "none": ranks.any(False),
        "is_main": ranks.is_main,
        "all_well": ended(ranks, None),
        "one_fails": ended(ranks, DataError("bad shards") if rank == 1 else None),
        "all_say_the_same": ended(ranks, ConfigError("no such key")),
        "two_say_different_things": ended(
            ranks, ConfigError("first") if rank == 0 else DataError("last") if rank == 2 else None
        ),
        "a_defect": ended(ranks, RuntimeError("boom") if rank == 1 else None),
        "in_turn": made_in_turn(ranks, folder),
    }
    dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(heard))


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """What each rank has heard."""
    folder = tmp_path_factory.mktemp("ranks")
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=conversation, args=(rank, folder)) for rank in range(WORLD_SIZE)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD_SIZE)]


def of_all(heard, name):
    return [one[name] for one in heard]


def test_any_json_is_gathered_in_the_order_of_ranks(heard):
    assert of_all(heard, "gathered") == [SAID] * WORLD_SIZE


def test_numbers_are_added_up_and_compared(heard):
    assert of_all(heard, "sums") == [[3, 3 * 2**40, -3]] * WORLD_SIZE
    assert of_all(heard, "largest") == [10] * WORLD_SIZE
    assert of_all(heard, "any") == [True] * WORLD_SIZE
    assert of_all(heard, "none") == [False] * WORLD_SIZE
    assert of_all(heard, "is_main") == [True, False, False]


def test_an_error_on_one_rank_ends_them_all_and_is_said_there(heard):
    assert of_all(heard, "all_well") == [None] * WORLD_SIZE
    others = ["OtherRankError", 65, ""]
    assert of_all(heard, "one_fails") == [others, ["DataError", 65, "bad shards"], others]
    defect = ["OtherRankError", 70, ""]
    assert of_all(heard, "a_defect") == [defect, ["RuntimeError", None, "boom"], defect]


def test_what_all_ranks_say_is_said_once(heard):
    others = ["OtherRankError", 2, ""]
    assert of_all(heard, "all_say_the_same") == [
        ["ConfigError", 2, "no such key"], others, others
    ]  # fmt: skip
    assert of_all(heard, "two_say_different_things") == [
        ["ConfigError", 2, "first"], others, ["DataError", 65, "last"]
    ]  # fmt: skip


def test_the_first_rank_of_a_machine_makes_what_the_others_find(heard):
    assert of_all(heard, "in_turn") == [False, True, True]


def test_a_rank_alone_tells_itself():
    alone = Ranks()
    assert alone.is_main
    assert alone.gather({"a": 1}) == [{"a": 1}]
    assert alone.sums((1, 2)) == [1, 2]
    assert (alone.largest(3), alone.any(True), alone.any(False)) == (3, True, False)
    assert alone.in_turn(lambda: "made") == "made"
    with pytest.raises(ConfigError, match="mine"), alone.together():
        raise ConfigError("mine")
    assert not issubclass(ConfigError, OtherRankError)
