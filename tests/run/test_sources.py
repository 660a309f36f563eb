"""What the tasks of a run read, and what cannot be trained or evaluated."""

import json

import pytest

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.checkpoint import checkpoint_steps
from kl3m_embeddings.run.sources import Devices
from tests.run.tuned import PAIRS, WITH_MARGIN, train, tuned_folder
from tests.train.runs import log_rows


@pytest.mark.slow
def test_the_best_checkpoint_by_a_metric_is_kept(make_model_folder, base):
    save = {"keep_last": 1, "keep_best": True, "best_metric": "held_out/mrr@10"}
    folder = tuned_folder(
        make_model_folder, base, save=save, steps_per_save=2, steps_per_eval=2, max_length=32
    )
    assert train(folder) == 0
    rows = log_rows(folder / "eval.jsonl")
    best = max(rows, key=lambda row: row["held_out/mrr@10"])["step"]
    # the newest two, for only a later step shows that the newest is good
    assert set(checkpoint_steps(folder)) == {best, 10, 12}
    assert best < 10


@pytest.mark.parametrize("name", ["held_out/ndgc@10", "nothing/ndcg@10", "ndcg@10"])
def test_a_metric_that_is_not_evaluated(make_model_folder, base, capsys, name):
    folder = tuned_folder(make_model_folder, base, save={"best_metric": name})
    assert train(folder) == 2
    assert f"save.best_metric: {name} is not evaluated" in capsys.readouterr().err
    assert not (folder / "log.jsonl").exists()


def graded(loss, **fields):
    """A run on labels, which `{files}` stands for the files of."""
    tasks = {"pairs": {"probability": 1.0, "loss": loss}}
    return fields | {"tasks": tasks, "pairs": {"graded": {"path": "{files}"}}}


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"tasks": {"pairs": PAIRS["pairs"] | {"num_negatives": 3}}}, 65, "3 negatives"),
        ({"tasks": {"pairs": 1.0}, "batch_size": 1}, 2, "batch_size 1 leaves infonce nothing"),
        ({"tasks": {"crop": 1.0}, "batch_size": 1}, 2, "batch_size 1 leaves infonce nothing"),
        (graded("cosent", batch_size=1), 2, "batch_size 1 leaves cosent nothing"),
        (graded("online_contrastive", batch_size=1), 2, "batch_size 1 leaves online_contrastive"),
        (
            {"tasks": {"pairs": PAIRS["pairs"] | {"matryoshka_dims": [64, 16]}}},
            2,
            "tasks.pairs.matryoshka_dims: 64 is larger than the embedding (32)",
        ),
        (
            {"query_prefix": "@" * 30},
            2,
            "query_prefix: '@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@' has 30 tok",
        ),
        (
            {"tasks": {"pairs": PAIRS["pairs"] | {"seq_len": 8}}, "document_prefix": "@@@@@@"},
            2,
            "document_prefix: '@@@@@@' has 6 tokens, which leaves none of 8 for a text: "
            "shorten it, or raise tasks.pairs.seq_len",
        ),
        ({"eval": {"dims": [64]}}, 2, "eval.dims: 64 is larger than the embedding (32)"),
        ({"pairs": {}}, 2, "no set of pairs"),
        ({"pairs": {"gone": {"path": "/nowhere.jsonl"}}}, 65, "/nowhere.jsonl"),
        ({"tasks": {"pairs": WITH_MARGIN | {"guide": "/nowhere"}}}, 2, "/nowhere"),
        ({"batch_size": 64}, 65, "a batch takes 64"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(
    make_model_folder, base, tiny_pair_files, capsys, fields, code, says
):
    fields = json.loads(json.dumps(fields).replace("{files}", str(tiny_pair_files["graded"])))
    folder = tuned_folder(make_model_folder, base, **fields)
    assert train(folder) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (folder / "log.jsonl").exists()


@pytest.mark.parametrize(("number", "share"), [(1, 24), (2, 12), (3, 8), (6, 4), (24, 1)])
def test_a_device_has_its_share_of_the_batch_that_the_run_began_with(number, share):
    """Three devices with 8 each."""
    devices = Devices(number=number, first_number=3)
    assert devices.share_of("batch_size", 8) == share


def test_what_cannot_be_shared_evenly_is_refused():
    with pytest.raises(ConfigError, match=r"^x: .* of 24 \(8 on each of 3 devices\), which 5 dev"):
        Devices(number=5, first_number=3).share_of("x", 8)
