"""`kl3m svd`: how models use their dimensions, weight by weight and in the vectors of a sample."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from kl3m_embeddings.commands.options import AllCheckpoints, Device

if TYPE_CHECKING:
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
    all_checkpoints: AllCheckpoints = False,
    out: Annotated[
        Path | None, typer.Option(help=f"Where {FILE} goes (default: the run's folder).")
    ] = None,
    device: Device = None,
) -> int:
    """Singular values of all weights, and the shape of the vectors of a sample of texts."""
    from tqdm import tqdm

    from kl3m_embeddings.encoder.folder.model_paths import check_unique, is_run, model_paths
    from kl3m_embeddings.encoder.hardware import pick_device
    from kl3m_embeddings.encoder.text_encoder import TextEncoder
    from kl3m_embeddings.files.json_lines import replace_lines
    from kl3m_embeddings.messages import say, warn

    paths = [
        path
        for source in models
        for path in model_paths(source, warn, all_checkpoints=all_checkpoints)
    ]
    check_unique((path.name, path.step) for path in paths)
    first = Path(models[0])
    pairs = pairs or (default_pairs(first) if texts is None and is_run(first) else None)
    sample = read_sample(texts, pairs, num_texts)
    if not sample.texts:
        say("no texts: the weights alone are looked at; give --texts or --pairs")
    where = pick_device(device)
    rows: list[dict[str, Any]] = []
    for path in tqdm(paths, unit="model"):
        model = TextEncoder.load(path.path, device=where)
        rows += model_rows(path, model, sample)
    file = (out or (first if is_run(first) else Path())) / FILE
    replace_lines(file, rows, ("model", "step"))
    print_means(file, {(path.name, path.step) for path in paths})
    say(str(file))
    return 0


def print_means(file: Path, measured: Collection[tuple[str, int | None]]) -> None:
    """A table of what has been measured just now, by model and step, as the file has it."""
    from kl3m_embeddings.report.read.benchmark import read_spectra
    from kl3m_embeddings.report.statistics.spectra import spectra_statistics
    from kl3m_embeddings.report.tables.output import print_all
    from kl3m_embeddings.report.tables.spectra import means_table

    spectra = [one for one in read_spectra(file)[0] if (one.model, one.step) in measured]
    print_all([means_table(spectra_statistics(spectra, every_step=True))])


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


def model_rows(path: "ModelPath", model: "TextEncoder", sample: Sample) -> list[dict[str, Any]]:
    """The rows of one model: its weights', then its vectors'."""
    from kl3m_embeddings.benchmark.spectra import embedding_shape, weight_spectra

    about = {"model": path.name, "step": path.step}
    rows = [{**about, **row} for row in weight_spectra(model.encoder)]
    if len(sample.texts) >= 2:
        vectors = model.encode(sample.texts)
        row_of = {text: row for row, text in enumerate(sample.texts)}
        sides = [vectors[[row_of[pair[side]] for pair in sample.pairs]] for side in (0, 1)]
        pairs = (sides[0], sides[1]) if sample.pairs else None
        rows.append({**about, **embedding_shape(vectors, pairs)})
    return rows
