"""What the quickstart's first model has learnt, beside what token frequency alone would predict."""

from pathlib import Path

from kl3m_embeddings.config.read import load_training
from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.evaluation.unigrams import UnigramBaseline, unigram_baseline
from kl3m_embeddings.files.checkpoint import newest_verified
from kl3m_embeddings.files.json_lines import read_records
from kl3m_embeddings.files.records import Count, Record
from kl3m_embeddings.report.tables.output import print_all
from kl3m_embeddings.report.tables.parts import fold_names, grid
from kl3m_embeddings.run.model import open_run_model
from kl3m_embeddings.run.text import open_text, text_evaluation


class TextEvaluationRow(Record):
    """What is read of a row of eval.jsonl."""

    step: Count
    mean: float
    accuracy: float


def print_masked_tokens(folder: Path) -> None:
    """A table of held-out loss and accuracy."""
    training = load_training(folder / "training.json")
    model = open_run_model(folder, training, newest_verified(folder, print))
    text = open_text(training, model.tokenizer, model.max_length)
    evaluation = text_evaluation(training, text)
    assert evaluation is not None
    rows = read_records(folder / "eval.jsonl", TextEvaluationRow)
    if not rows:
        raise DamagedError(f"{folder / 'eval.jsonl'}: no evaluation: train anew with --restart")
    first, last = rows[0], rows[-1]
    unigram: UnigramBaseline = unigram_baseline(
        text.train.corpus, evaluation, model.tokenizer.vocab_size
    )
    table = grid(
        "Masked tokens of held-out documents", "predicted by", "mean loss\n(nats)", "\naccuracy"
    )
    fold_names(table)
    for name, loss, accuracy in (
        (f"the encoder before training (step {first.step})", first.mean, first.accuracy),
        ("token frequency alone", unigram.mean_loss, unigram.accuracy),
        (f"the encoder (step {last.step})", last.mean, last.accuracy),
    ):
        table.add_row(name, f"{loss:.2f}", f"{accuracy:.1%}")
    print_all([table])
