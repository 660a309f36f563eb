"""Properties of whole steps and whole runs; kills and resumes are in test_resume.py."""

import json
from contextlib import contextmanager

import pytest
import torch

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.config.read import apply_overrides, load_training
from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.files.checkpoint import checkpoint_steps, verify
from kl3m_embeddings.run.setup import RunRequest, open_run
from kl3m_embeddings.train.phase_timer import PhaseTimer
from kl3m_embeddings.train.stop import StopRequest
from tests.tiny_model import NO_DROPOUT

FOUR_TASKS = {"mlm": 0.25, "nsp": 0.25, "nlp": 0.25, "mhm": 0.25}


@contextmanager
def opened(folder, *overrides, **request):
    training = load_training(folder / "training.json", overrides)
    with open_run(
        RunRequest(folder=folder, training=training, device="cpu", quiet=True, **request)
    ) as trainer:
        yield trainer


def rows_of(folder, name="log.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def gradients_of(trainer, step):
    """The gradients that the optimizer would see in a step, and the step's loss."""
    taken = {}

    def take(lr, max_norm):
        for name, parameter in trainer.engine.objective.named_parameters():
            taken[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = None
        return StepResult(norm=torch.tensor(1.0), skipped=torch.tensor(False))

    trainer.engine.step = take
    timer = PhaseTimer(torch.device("cpu"))
    pending = trainer._step(trainer.planner.plan(step), timer)
    return taken, pending


@pytest.mark.parametrize("task", FOUR_TASKS)
def test_accumulated_gradients_are_those_of_the_whole_batch(make_model_folder, task):
    """With dropout; and where micro-batches have unequal numbers of targets, whose mean is not that
    of the micro-batches' means.
    """
    settings = {"tasks": {task: 1.0}, "num_eval_samples": 0, "max_length": 32}
    optimizer = {"total_steps": 4, "gradient_accumulation_steps": 3}
    whole = make_model_folder("whole", batch_size=6, **settings)
    parts = make_model_folder("parts", batch_size=2, optimizer=optimizer, **settings)
    unequal = 0
    with opened(whole) as one, opened(parts) as other:
        for step in (1, 2, 3):
            (expected, pending), (actual, accumulated) = (
                gradients_of(trainer, step) for trainer in (one, other)
            )
            counts = [batch.counts["mlm"] for batch in accumulated.plan.batches]
            unequal += len(set(counts)) > 1
            assert accumulated.divisors == pending.divisors
            assert accumulated.loss.item() == pytest.approx(pending.loss.item(), abs=1e-5)
            assert accumulated.num_correct == pending.num_correct
            for name in expected:
                torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-6)
    if task in ("nlp", "mhm"):
        assert unequal


def test_the_logged_loss_is_the_mean_over_the_targets(make_model_folder):
    folder = make_model_folder(config=NO_DROPOUT, num_eval_samples=0)
    with opened(folder) as trainer:
        _, pending = gradients_of(trainer, 1)
        batch = trainer.planner.plan(1).batches[0]
        losses = trainer.engine.forward(batch.without_dropout(), grad=False).target_losses
        assert pending.loss.item() == pytest.approx(losses.sum().item() / batch.counts["mlm"])


class StopAt(StopRequest):
    """A request that comes at the n-th look."""

    def __init__(self, look):
        super().__init__()
        self.looks_left = look

    def __bool__(self):
        self.looks_left -= 1
        return self.looks_left < 0


@pytest.mark.parametrize("look", range(14))
def test_whenever_a_stop_comes_the_last_step_is_saved(make_model_folder, look):
    folder = make_model_folder(steps_per_save=100, steps_per_eval=2, num_eval_samples=2)
    with opened(folder, "optimizer.total_steps=5") as trainer:
        trainer.train(StopAt(look))
        step = trainer.state.step
    assert verify(folder / "latest").step == step
    assert [row["step"] for row in rows_of(folder)] == list(range(1, step + 1))


def test_an_evaluation_that_a_stop_prevented_is_made_up_for(make_model_folder):
    folder = make_model_folder(steps_per_eval=2, num_eval_samples=2)
    with opened(folder) as trainer:
        stop = StopRequest()
        trainer.engine.step = stop_in_step(trainer, stop, 4)
        trainer.train(stop)
    assert verify(folder / "latest").step == 4
    assert [row["step"] for row in rows_of(folder, "eval.jsonl")] == [0, 2]
    assert main([str(folder), "--quiet"]) == 0
    assert [row["step"] for row in rows_of(folder, "eval.jsonl")] == [0, 2, 4, 6, 8, 10, 12]


def stop_in_step(trainer, stop, step):
    """The engine's step, with a signal in the middle of the given one."""
    take_step = trainer.engine.step

    def wrapped(lr, max_norm):
        if trainer.state.step + 1 == step:
            stop.signal_number = 15
        return take_step(lr, max_norm)

    return wrapped


def test_the_peak_is_measured_again_and_the_best_counts(make_model_folder):
    """A start on a busy device: what was measured at evaluations and saves is more, then less."""
    folder = make_model_folder(steps_per_eval=4, num_eval_samples=2, steps_per_save=100)
    with opened(folder, "optimizer.total_steps=10") as trainer:
        at_start = trainer.peak_flops
        peaks = iter([at_start / 2, at_start * 3, at_start * 2, at_start])
        trainer.measure_peak = lambda: next(peaks)
        trainer.train(StopRequest())
    logged = [row["peak_flops"] / at_start for row in rows_of(folder)]
    assert logged == pytest.approx([1.0] * 3 + [3.0] * 7)


def test_stop_after_counts_from_here_and_ends_at_the_schedules_end(make_model_folder):
    folder = make_model_folder()
    for expected in (5, 10, 12, 12):
        assert main([str(folder), "--stop-after", "5", "--quiet"]) == 0
        assert verify(folder / "latest").step == expected
        assert [row["step"] for row in rows_of(folder)] == list(range(1, expected + 1))
    assert [row["step"] for row in rows_of(folder, "eval.jsonl")] == [0, 6, 12]
    assert not list(folder.glob("*orphan*"))


def test_more_steps_may_follow_and_change_nothing_before(make_model_folder):
    folder = make_model_folder()
    assert main([str(folder), "--quiet"]) == 0
    before = (folder / "log.jsonl").read_bytes()
    assert main([str(folder), "--set", "optimizer.total_steps=15", "--quiet"]) == 0
    assert (folder / "log.jsonl").read_bytes().startswith(before)
    assert [row["step"] for row in rows_of(folder)] == list(range(1, 16))
    assert [row["step"] for row in rows_of(folder, "eval.jsonl")] == [0, 6, 12, 15]
    # and fewer steps than there are is nothing to do
    assert main([str(folder), "--set", "optimizer.total_steps=3", "--quiet"]) == 0
    assert len(rows_of(folder)) == 15


@pytest.mark.parametrize(
    ("save", "kept"),
    [
        ({"keep_last": 1}, [12, 10]),
        ({"keep_last": 2}, [12, 10]),
        ({"keep_last": 1, "keep_every": 4}, [12, 10, 8, 4, 0]),
        ({"keep_last": 50}, [12, 10, 8, 6, 4, 2, 0]),
    ],
)
def test_which_checkpoints_are_kept(make_model_folder, save, kept):
    folder = make_model_folder(steps_per_save=2, num_eval_samples=0, save=save)
    assert main([str(folder), "--quiet"]) == 0
    assert checkpoint_steps(folder) == kept


def test_the_best_checkpoint_is_saved_and_kept(make_model_folder):
    folder = make_model_folder(
        steps_per_save=5, steps_per_eval=3, save={"keep_last": 1, "keep_best": True}
    )
    means = iter([9.0, 7.0, 5.0, 6.0, 8.0])  # after steps 0, 3, 6, 9 and 12

    with opened(folder) as trainer:
        evaluate = trainer.evaluator.evaluate
        row = evaluate(trainer.engine, lambda: False)
        object.__setattr__(trainer, "evaluator", Rows(row, means, trainer.evaluator))
        trainer.train(StopRequest())
    assert trainer.state.best_step == 6
    assert trainer.state.best_score == -5.0
    assert checkpoint_steps(folder) == [12, 10, 6]
    assert json.loads((folder / "latest/trainer/state.json").read_text())["best_step"] == 6


class Rows:
    """Stands for an evaluator whose means are known."""

    def __init__(self, row, means, evaluator):
        self.row, self.means = row, means
        self.score, self.headline = evaluator.score, evaluator.headline

    def evaluate(self, engine, stopped):
        return self.row | {"mean": next(self.means)}


def test_steps_whose_gradient_is_not_finite_are_logged_as_skipped(make_model_folder):
    folder = make_model_folder(num_eval_samples=0, max_skipped_steps=3)
    with opened(folder) as trainer:
        backward, number = trainer.engine.backward, iter(range(1, 100))

        def poisoned(loss, *, last):
            backward(loss * float("nan") if next(number) in (2, 3, 6) else loss, last=last)

        trainer.engine.backward = poisoned
        trainer.train(StopRequest())
    rows = rows_of(folder)
    assert [row["step"] for row in rows if row["skipped"]] == [2, 3, 6]
    assert all((row["loss"] is None) == row["skipped"] for row in rows)
    assert all((row["grad_norm"] is None) == row["skipped"] for row in rows)
    state = json.loads((folder / "latest/trainer/state.json").read_text())
    assert [n for n in range(1, 13) if state["grad_norms"][n] is None] == [2, 3, 6]
    assert state["skipped_in_a_row"] == 0


def test_a_step_does_not_depend_on_what_ran_before_it_in_the_process(make_model_folder):
    """Seeds are the step's own: neither earlier draws nor the samples of an evaluation matter."""
    runs = []
    for name, noise in (("one", 0), ("other", 3)):
        folder = make_model_folder(name, tasks=FOUR_TASKS, matroyshka_probability=0.5,
                                   matroyshka_min_log2=2)  # fmt: skip
        torch.manual_seed(noise)
        torch.rand(noise)
        number = {"one": 6, "other": 1}[name]
        assert main([str(folder), "--set", f"steps_per_eval={number}", "--quiet"]) == 0
        runs.append([(row["loss"], row["grad_norm"], row["task"]) for row in rows_of(folder)])
    assert runs[0] == runs[1]


def test_another_order_of_the_datasets_is_refused(make_model_folder, capsys):
    folder = make_model_folder()
    assert main([str(folder), "--stop-after", "1", "--quiet"]) == 0
    path = folder / "training.json"
    fields = json.loads(path.read_text())
    fields["data"] = dict(reversed(fields["data"].items()))
    path.write_text(json.dumps(apply_overrides(fields, [])))
    assert main([str(folder), "--quiet"]) == 2
    assert "data: was ['statutes', 'opinions'], is ['opinions', 'statutes']" in (
        capsys.readouterr().err
    )


def test_another_number_of_evaluation_samples_does_not_change_what_is_trained(make_model_folder):
    runs = []
    for name, changed in (("one", []), ("other", ["--set", "num_eval_samples=6"])):
        folder = make_model_folder(name, num_eval_samples=1)
        assert main([str(folder), "--stop-after", "3", "--quiet"]) == 0
        assert main([str(folder), *changed, "--quiet"]) == 0
        runs.append([row["loss"] for row in rows_of(folder)])
    assert runs[0] == runs[1]


def test_built_shards_go_by_the_name_in_training_json(make_model_folder, tiny_shards):
    folder = make_model_folder(data={"laws": {"path": str(tiny_shards["statutes"].path)}})
    assert main([str(folder), "--quiet"]) == 0
    assert {*rows_of(folder)[0]["samples_by_dataset"]} == {"laws"}
