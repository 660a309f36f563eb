"""The training loop.

A step: take its plan, go forward and backward over its micro-batches, step. Its row is read while
the next step runs, so that the host never waits for the device inside a step. Between steps,
where due: evaluate, then save. A step depends on its number and on what is in the checkpoint, on
nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.data.prefetch import prefetched
from kl3m_embeddings.encoder.allocator import KeptMemory
from kl3m_embeddings.engine.base import Engine, TrainState
from kl3m_embeddings.evaluation.evaluator import Evaluator
from kl3m_embeddings.files.faults import fault_point
from kl3m_embeddings.messages import warn
from kl3m_embeddings.optim.schedule import lr_at
from kl3m_embeddings.tasks.base import Outputs
from kl3m_embeddings.tasks.plan import Planner, StepPlan
from kl3m_embeddings.train.clipping import GradNormWindow
from kl3m_embeddings.train.divergence import GoodCheckpoints
from kl3m_embeddings.train.logs import EVAL, LOG, OBJECTS, RowWriter
from kl3m_embeddings.train.phase_timer import PhaseTimer
from kl3m_embeddings.train.rows import PendingRow, Postfix
from kl3m_embeddings.train.saver import RuinedError, Saver
from kl3m_embeddings.train.stop import StopRequest


@dataclass(kw_only=True)
class Trainer:
    """A run: what it trains, where it stands, and what it writes."""

    training: TrainingConfig
    engine: Engine
    planner: Planner
    evaluator: Evaluator | None
    state: TrainState
    grad_norms: GradNormWindow
    logs: Mapping[str, RowWriter]
    saver: Saver
    checkpoints: GoodCheckpoints
    flops_of: Callable[[StepPlan], float]
    """Floating-point operations of a step on this device."""
    peak_flops: float
    """Operations a second of a large matrix product on this device, the best that was measured."""
    measure_peak: Callable[[], float]
    """Measures them again: a device that was busy at the start seemed slower than it is."""
    last_step: int
    """Stop after this step."""
    memory: KeptMemory | None = None
    """Of the CPU, where that is the device."""
    quiet: bool = False
    _pending: PendingRow | None = None
    """The step before, whose numbers are not yet read from the device."""
    _postfix: Postfix = field(default_factory=Postfix)
    _scored_nothing: bool = False
    """The last evaluation, of these weights, gave no number where others did."""
    _owes_save: bool = False
    """A checkpoint was due while the weights may have been ruined."""

    def train(self, stop: StopRequest) -> None:
        """Train up to `last_step`, or until `stop` is requested; then save."""
        first_step = self.state.step + 1
        plans = self.planner.plans(first_step, self.last_step)
        with prefetched(plans) as ready, self._progress() as bar:
            stopping = self._between_steps(stop, bar)  # step 0 is evaluated and saved, too
            while self.state.step < self.last_step and not stopping:
                timer = PhaseTimer(self.engine.device)
                timer.mark("start")
                plan = next(ready)
                timer.mark("sample")
                pending = self._step(plan, timer)
                self._write_pending(bar)  # of the step before: its numbers are there by now
                timer.mark("other")
                self._pending = pending
                self.state.step = plan.step
                fault_point("after_step")
                bar.update()
                if self.memory is not None:
                    self.memory.after_step()
                stopping = self._between_steps(stop, bar)

    def _step(self, plan: StepPlan, timer: PhaseTimer) -> PendingRow:
        """One optimizer step; nothing in it waits for the device."""
        totals = self.engine.ranks.sums(list(plan.counts.values()))
        divisors = {name: float(total) for name, total in zip(plan.counts, totals, strict=True)}
        # a step without targets has loss 0, not 0 / 0
        safe_divisors = {name: max(total, 1.0) for name, total in divisors.items()}
        task = self.planner.tasks[plan.task].task
        loss_sum = torch.zeros((), device=self.engine.device)
        num_correct = torch.zeros((), device=self.engine.device, dtype=torch.long)
        measures: dict[str, Tensor] = {}

        def forward(batch: Batch, *, grad: bool = True) -> Outputs:
            outputs = self.engine.forward(batch, grad=grad)
            timer.mark("forward")
            if outputs.num_correct is not None:
                num_correct.add_(outputs.num_correct)
            return outputs

        for index, batch in enumerate(plan.batches):
            if batch.parts:  # split on, until every rank goes forward and backward equally often
                batch = batch.with_parts(self.engine.ranks.largest(len(batch.parts)))
            for part in task.losses(forward, batch, safe_divisors):
                is_last = part.is_last and index == len(plan.batches) - 1
                self.engine.backward(part.loss, last=is_last)
                timer.mark("backward")
                loss_sum += part.loss.detach()
                for name, value in part.measures.items():
                    measures[name] = measures.get(name, 0.0) + value
        lr = lr_at(plan.step, self.training.optimizer)
        threshold = self.grad_norms.threshold()
        result = self.engine.step(lr, threshold)
        self.grad_norms.record(plan.step, result)
        timer.mark("optimizer")
        return PendingRow(
            task=task,
            plan=plan,
            epoch=1 + (plan.step - 1) // self.training.steps_per_epoch,
            lr=lr,
            loss=loss_sum,
            num_correct=num_correct,
            measures=measures,
            divisors=divisors,
            clip_threshold=threshold,
            result=result,
            timer=timer,
            flops=self.flops_of(plan),
        )

    def _between_steps(self, stop: StopRequest, bar: tqdm) -> bool:
        """Evaluate and save where due; true if a rank was asked to stop."""
        step, final = self.state.step, self.state.step == self.last_step
        stopping = self.engine.ranks.any(bool(stop))
        evaluates = self._evaluation_due() and not stopping
        if not (evaluates or self._save_due() or stopping or final):
            return False
        self.peak_flops = max(self.peak_flops, self.measure_peak())
        self._write_pending(bar)
        if evaluates:  # after the step's row is written, so that the logs are in order
            self._evaluate(stop, bar)
            stopping = self.engine.ranks.any(bool(stop))
        keeps_best = self.training.save.keep_best and self.state.best_step == step
        if self._save_due() or stopping or final or keeps_best:
            self._save_unless_ruined(final=final, stopping=stopping)
        return stopping

    def _evaluation_due(self) -> bool:
        step = self.state.step
        due = step % self.training.steps_per_eval == 0 or step == self.training.optimizer.num_steps
        return self.evaluator is not None and due and self.state.evaluated_step < step

    def _save_due(self) -> bool:
        return self._owes_save or self.state.step % self.training.steps_per_save == 0

    def _write_pending(self, bar: tqdm) -> None:
        """Read the step before, log it, and stop the run if too many in a row were skipped."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        shares = self.engine.ranks.gather(pending.share())
        row = pending.row(shares, self.state.total_time, self.peak_flops)
        self.logs[LOG].write(row)
        self.logs[OBJECTS].write(pending.objects(shares))
        fault_point("after_log_row")
        self.state.total_time = row["total_time"]
        if row["loss"] is None:
            self.state.skipped_in_a_row += 1
        else:
            self.state.skipped_in_a_row, self._scored_nothing = 0, False
            self.checkpoints.last_finite = row["step"]
        bar.set_postfix(self._postfix.update(row), refresh=False)
        if self.state.skipped_in_a_row >= self.training.max_skipped_steps:
            self._diverged(self._skipped())

    def _evaluate(self, stop: StopRequest, bar: tqdm) -> None:
        assert self.evaluator is not None
        bar.set_description("Evaluating")
        row = self.evaluator.evaluate(self.engine, lambda: self.engine.ranks.any(bool(stop)))
        bar.set_description("Training")
        if row is None:
            return
        self.logs[EVAL].write({"step": self.state.step, **row})
        fault_point("after_eval_row")
        self.state.evaluated_step = self.state.step
        self.state.last_eval = row
        score, best = self.evaluator.score(row), self.state.best_score
        self._postfix.last_eval = self.evaluator.headline(row)
        self._scored_nothing = score is None and best is not None
        is_sound = self.state.skipped_in_a_row == 0
        if score is not None and is_sound and (best is None or score > best):
            self.state.best_score, self.state.best_step = score, self.state.step

    def _save_unless_ruined(self, *, final: bool, stopping: bool) -> None:
        """Save, or put it off while the weights may be ruined; the end of a run cannot be."""
        self._owes_save = self.state.skipped_in_a_row > 0 or self._scored_nothing
        if not self._owes_save:
            self.state.grad_norms = self.grad_norms.state()
            try:
                self.saver.save(self.engine, self.state, self.logs)
            except RuinedError as error:
                self._diverged(str(error))
        elif final:
            self._diverged(
                self._skipped()
                if self.state.skipped_in_a_row
                else f"what was evaluated at step {self.state.step} is not finite"
            )
        elif stopping:
            warn(f"{self.saver.folder}: {self._skipped()}: not saved; it goes on from before")

    def _skipped(self) -> str:
        return (
            f"{self.state.skipped_in_a_row} steps in a row up to step {self.state.step} had a loss "
            "or gradient that is not finite"
        )

    def _diverged(self, reason: str) -> None:
        """End the run, on all ranks."""
        with self.engine.ranks.together():
            if self.engine.ranks.is_main:
                raise self.checkpoints.end(reason)

    def _progress(self) -> tqdm:
        return tqdm(
            total=self.training.optimizer.num_steps,
            initial=self.state.step,
            desc="Training",
            dynamic_ncols=True,
            disable=True if self.quiet else None,  # None: quiet where the output is no terminal
        )
