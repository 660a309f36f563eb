"""`kl3m svd`: how models use their dimensions, weight by weight and in the vectors of a sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from kl3m_embeddings.encoder.folder.model_paths import ModelPath
    from kl3m_embeddings.encoder.text_encoder import TextEncoder

FILE = "spectra.jsonl"


class Sample(NamedTuple):
    """Texts, and pairs of texts that belong together."""

    texts: Sequence[str] = ()
    pairs: Sequence[tuple[str, str]] = ()


def svd(
    models: Annotated[list[str], typer.Argument(help="Model folders, or any model's folder.")],
    texts: Annotated[
        Path | None, typer.Option(help="Texts to embed: JSONL, CSV, a folder, as for training.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Pairs to embed (default: the first of a run's eval.pairs)."),
    ] = None,
    num_texts: Annotated[int, typer.Option(min=2, max=10_000, help="Of the sample.")] = 1000,
    all_checkpoints: Annotated[
        bool, typer.Option("--all-checkpoints", help="Of a run, every checkpoint.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help=f"Where {FILE} goes (default: the run's folder).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, cuda:1, mps, cpu.")] = None,
) -> int:
    """Singular values of all weights, and the shape of the vectors of a sample of texts."""
    from rich.console import Console
    from tqdm import tqdm

    from kl3m_embeddings.encoder.folder.model_paths import check_unique, is_run, model_paths
    from kl3m_embeddings.encoder.hardware import pick_device
    from kl3m_embeddings.encoder.text_encoder import TextEncoder
    from kl3m_embeddings.files.json_lines import replace_lines
    from kl3m_embeddings.messages import say, warn

    places = [
        place
        for source in models
        for place in model_paths(source, warn, all_checkpoints=all_checkpoints)
    ]
    check_unique((place.name, place.step) for place in places)
    first = Path(models[0])
    pairs = pairs or (default_pairs(first) if texts is None and is_run(first) else None)
    sample = read_sample(texts, pairs, num_texts)
    if not sample.texts:
        say("no texts: the weights alone are looked at; give --texts or --pairs")
    where = pick_device(device)
    rows: list[dict[str, Any]] = []
    for place in tqdm(places, unit="model"):
        model = TextEncoder.load(place.path, device=where)
        rows += model_rows(place, model, sample)
    path = (out or (first if is_run(first) else Path())) / FILE
    replace_lines(path, rows, ("model", "step"))
    Console().print(spectra_table(rows))
    say(str(path))
    return 0


def default_pairs(folder: Path) -> Path | None:
    """The first held-out set of a run, if it is a file or folder that is there."""
    from kl3m_embeddings.config.read import load_training

    for one in load_training(folder / "training.json").eval.pairs.values():
        paths = [one.path] if isinstance(one.path, str) else one.path
        if Path(paths[0]).exists():
            return Path(paths[0])
    return None


def read_sample(texts: Path | None, pairs: Path | None, num_texts: int) -> Sample:
    """The first texts, each once, of files of texts, or of the queries and positives of pairs."""
    from itertools import islice

    from kl3m_embeddings.data.pair_sets.files import PairReader, list_pair_files
    from kl3m_embeddings.data.pair_sets.formats import PairRow
    from kl3m_embeddings.data.readers.documents import iter_documents
    from kl3m_embeddings.data.readers.records import Document, ReadOptions

    if texts is not None:
        read = (one.text for one in iter_documents(texts) if isinstance(one, Document))
        return Sample(texts=list(dict.fromkeys(islice(read, num_texts))))
    if pairs is None:
        return Sample()
    rows = (
        (row.query, row.positives[0])
        for file in list_pair_files(pairs)
        for row in PairReader(file, ReadOptions()).rows()
        if isinstance(row, PairRow) and (row.label is None or row.label >= 1)
    )
    found = list(islice(rows, num_texts // 2))
    unique = dict.fromkeys(text for pair in found for text in pair)
    return Sample(texts=list(unique), pairs=found)


def model_rows(place: "ModelPath", model: "TextEncoder", sample: Sample) -> list[dict[str, Any]]:
    """The rows of one model: its weights', then its vectors'."""
    from kl3m_embeddings.benchmark.spectra import embedding_shape, weight_spectra

    about = {"model": place.name, "step": place.step}
    rows = [{**about, **row} for row in weight_spectra(model.encoder)]
    if len(sample.texts) >= 2:
        vectors = model.encode(sample.texts)
        place_of = {text: row for row, text in enumerate(sample.texts)}
        sides = [vectors[[place_of[pair[side]] for pair in sample.pairs]] for side in (0, 1)]
        pairs = (sides[0], sides[1]) if sample.pairs else None
        rows.append({**about, **embedding_shape(vectors, pairs)})
    return rows


def spectra_table(rows: Sequence[dict[str, Any]]) -> "Table":
    """A line for each model: ranks averaged over its matrices, and the shape of its vectors."""
    from rich.text import Text

    from kl3m_embeddings.commands.plain_table import plain_table

    names = ("effective_rank", "stable_rank", "largest_over_mean")
    shapes = ("effective_rank", "anisotropy", "uniformity", "alignment")
    title = "Weights: means over the layers' matrices. Vectors: of the sample"
    table = plain_table(title, "model", gap=1)
    for name in (
        "step", "weights'\neff. rank", "stable\nrank", "largest\n/ mean", "vectors'\neff. rank",
        "aniso-\ntropy", "uni-\nformity", "align-\nment",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for model, step in dict.fromkeys((row["model"], row["step"]) for row in rows):
        of_model = [row for row in rows if (row["model"], row["step"]) == (model, step)]
        weights = [row for row in of_model if row["kind"] == "layer"]
        vectors: dict[str, Any] = next((r for r in of_model if r["kind"] == "embeddings"), {})
        cells = [mean_of(weights, name) for name in names] + [vectors.get(name) for name in shapes]
        shown = ["" if value is None else f"{value:.3g}" for value in cells]
        table.add_row(Text(model), "" if step is None else f"{step:,}", *shown)
    return table


def mean_of(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """Over the rows that have it."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else None
