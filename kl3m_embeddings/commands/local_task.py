"""`kl3m task`: make a task from a table; show one."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Tasks of plain files, for kl3m mteb.", no_args_is_help=True)


@app.command()
def make(
    table: Annotated[Path, typer.Argument(help="CSV, TSV or JSONL, also .gz or .zst.")],
    out: Annotated[Path, typer.Argument(help="The task's folder, a new one.")],
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            help="Retrieval, Reranking, STS, PairClassification, Classification or Clustering.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Of the task (default: the folder's).")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="As in query=question."),
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Classification: what to learn from (default: a split).")
    ] = None,
    main_score: Annotated[str | None, typer.Option(help="The number to judge by.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Put before every text.")] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Keep so many rows.")] = None,
    test_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Classification: share that is scored.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of rows.")] = 0,
) -> None:
    """Make a task folder from a table, and say what is in it."""
    from kl3m_embeddings.commands.named import named_value
    from kl3m_embeddings.local_tasks.make import make_local_task

    fields = {"name": name or out.name, "type": kind, "main_score": main_score, "prompt": prompt}
    made = make_local_task(
        table,
        out,
        {key: value for key, value in fields.items() if value is not None},
        columns=named_value(columns or (), "--column NAME=COLUMN, as in query=question"),
        train_table=train,
        max_rows=max_rows,
        test_share=test_share,
        seed=seed,
    )
    for reason, num in made.left_out.most_common():
        print(f"{table}: {num:,} rows left out: {reason}")
    show(out)


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="A folder with a task.json.")]) -> None:
    """Check a task, and say what is in it."""
    from kl3m_embeddings.local_tasks.folder import LabelledTexts, RankingTexts, read_local_task

    task = read_local_task(folder)
    content, settings = task.content, task.settings
    if isinstance(content, RankingTexts):
        num_judged = sum(map(len, content.judgements.values()))
        parts = (
            f"{len(content.judgements):,} queries, {len(content.documents):,} documents, "
            f"{num_judged:,} judgements"
        )
    elif isinstance(content, LabelledTexts):
        parts = f"{len(content.texts):,} texts, {len(set(content.labels)):,} labels"
        if content.train is not None:
            parts += f", {len(content.train.texts):,} to learn from"
    else:
        parts = f"{len(content.values):,} pairs"
    print(f"{settings.name}: {settings.type}, {parts}; main score {settings.score}")
