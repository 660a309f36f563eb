"""`kl3m corpus`: build, show and verify datasets of token shards; extract the default corpus."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Text to token shards.", no_args_is_help=True)

NUM_SAMPLE_TOKENS = 60


@app.command()
def build(
    datasets: Annotated[
        list[str],
        typer.Argument(metavar="NAME=PATH...", help="A file, folder, glob or hf://org/name."),
    ],
    tokenizer: Annotated[str, typer.Option(help="Folder, tokenizer.json or hub name.")],
    out: Annotated[Path, typer.Option(help="Where the datasets are written, a folder each.")],
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    id_column: Annotated[str, typer.Option(help="Column of the id, if any.")] = "id",
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Drop exact duplicates.")
    ] = False,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Drop near-duplicates too (slow).")
    ] = False,
    near_threshold: Annotated[
        float, typer.Option(min=0.1, max=1.0, help="Share of word 5-grams in common.")
    ] = 0.8,
    shard_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a shard.")] = 64_000_000,
    max_line_mb: Annotated[int, typer.Option(min=1, help="Longer lines are skipped.")] = 64,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace datasets that differ.")
    ] = False,
) -> None:
    """Build datasets; an interrupted build goes on where it was. A NAME given twice joins PATHs."""
    from kl3m_embeddings.commands.named import named_values
    from kl3m_embeddings.data.shards.build import BuildOptions, build_shards
    from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer

    options = BuildOptions(
        text_column=text_column,
        id_column=id_column,
        drop_duplicates=drop_duplicates,
        near_threshold=near_threshold if near_duplicates else None,
        shard_tokens=shard_tokens,
        max_line_mb=max_line_mb,
    )
    paths_of = named_values(datasets, "NAME=PATH, as in legal=documents.jsonl.gz")
    loaded = load_tokenizer(tokenizer)
    for name, paths in paths_of.items():
        result = build_shards(name, paths, loaded, out, options=options, overwrite=overwrite)
        _print_counts(result.shards.path, result.shards.info)
        num_text_mb = result.shards.info["num_text_bytes"] / 1e6
        if not result.was_built:
            print("  up to date: nothing was done")
        elif result.num_resumed_documents:
            resumed = f"resumed after {result.num_resumed_documents:,} documents"
            print(f"  {resumed}, {result.duration_s:.1f} s")
        else:
            print(f"  {result.duration_s:.1f} s, {num_text_mb / result.duration_s:.1f} MB/s")


@app.command()
def show(
    dataset: Annotated[Path, typer.Argument(help="A built dataset's folder.")],
    tokenizer: Annotated[str | None, typer.Option(help="To show a sample as text.")] = None,
) -> None:
    """Print what a dataset holds."""
    from kl3m_embeddings.data.shards.token_shards import TokenShards
    from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer

    shards = TokenShards.open(dataset)
    _print_counts(dataset, shards.info)
    vocab_size = shards.info["tokenizer"]["vocab_size"]
    print(f"  tokenizer {shards.tokenizer_fingerprint[:12]}, {vocab_size:,} ids")
    print(f"  {len(shards.info['shards'])} shards of {shards.info['dtype']}, {shards.sha256[:12]}")
    print(f"  sources: {', '.join(source['name'] for source in shards.info['sources'][:5])}")
    if tokenizer is None:
        return
    loaded = load_tokenizer(tokenizer)
    if loaded.fingerprint != shards.tokenizer_fingerprint:
        print(f"  {tokenizer} is another tokenizer ({loaded.fingerprint[:12]}): no sample")
        return
    middle = shards.num_documents // 2
    sample = loaded.backend.decode(shards.document_tokens(middle)[:NUM_SAMPLE_TOKENS].tolist())
    print(f"  {shards.document_id(middle)}: {' '.join(sample.split())} ...")


@app.command()
def verify(
    datasets: Annotated[list[Path], typer.Argument(help="Built datasets' folders.")],
) -> None:
    """Compare every file of datasets with its SHA-256."""
    from kl3m_embeddings.data.shards.token_shards import TokenShards

    for dataset in datasets:
        shards = TokenShards.open(dataset)
        shards.verify()
        print(f"{dataset}: {len(shards.info['files'])} files are as they were built")


@app.command()
def installed_docs(
    out: Annotated[Path, typer.Option(help="Folder for the JSONL files.")],
) -> None:
    """Extract the docstrings, licences and READMEs that this Python installation holds."""
    from kl3m_embeddings.data.installed.default_corpus import write_default_corpus

    files, skipped = write_default_corpus(out)
    for file in files:
        print(f"{file.path}: {file.num_rows:,} rows, {file.num_bytes / 1e6:.1f} MB")
    print(f"skipped: {', '.join(f'{count:,} {reason}' for reason, count in skipped.items())}")


def _print_counts(path: Path, info: Mapping[str, Any]) -> None:
    """Print what was built, and what was not taken."""
    print(
        f"{path}: {info['num_documents']:,} documents, {info['num_tokens']:,} tokens, "
        f"{info['num_text_bytes'] / 1e6:,.1f} MB of text"
    )
    skipped = [f"{count:,} {reason}" for reason, count in info["skipped"].items()]
    print(f"  skipped: {', '.join(skipped) or 'none'}")
    if info["num_duplicates"]:
        what = "dropped" if "duplicate" in info["skipped"] else "kept (see --drop-duplicates)"
        print(f"  exact duplicates: {info['num_duplicates']:,}, {what}")
