"""`kl3m chunk`: documents to the pieces that a model reads whole, as spans of the text."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.messages import say, warn

if TYPE_CHECKING:
    from kl3m_embeddings.embed.chunk_corpus import ChunkRequest, ChunkResult


def chunk(
    corpus: Annotated[
        list[str], typer.Argument(help="Files, folders, globs or hf://org/name, and then OUT.")
    ],
    model: Annotated[str, typer.Option(help="Whose tokenizer counts: a folder or a hub name.")],
    tokens: Annotated[
        int, typer.Option(help="Of a chunk, at most, without special ones and the prompt's.")
    ] = 500,
    overlap: Annotated[
        float, typer.Option(help="Part of a chunk that begins the next, too.")
    ] = 0.1,
    end: Annotated[
        str | None, typer.Option(help="sentence: end a chunk with a sentence, if one ends near.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Part of a chunk given up for --end, at most.")
    ] = 0.2,
    by: Annotated[
        str | None,
        typer.Option(help="Of whole lines or paragraphs, or of module:function's spans."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Before each chunk (default: the model's, of documents).")
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    id_column: Annotated[str, typer.Option(help="Column of the id, if any.")] = "id",
    keep: Annotated[str, typer.Option(help="Other columns to keep: title,url.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes, a file each.")] = 1,
    max_line_mb: Annotated[int, typer.Option(min=1, help="Longer lines are skipped.")] = 64,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Chunk files again that have changed.")
    ] = False,
) -> int:
    """Cut a corpus into chunks: kl3m chunk CORPUS... OUT. Killed, the same command goes on."""
    from kl3m_embeddings.embed.chunk_corpus import ChunkRequest
    from kl3m_embeddings.embed.chunker import ChunkSize

    if len(corpus) < 2:
        raise ConfigError("name the corpus, and then the folder of the chunks: CORPUS OUT")
    if end not in (None, "sentence"):
        raise ConfigError(f"--end {end}: choose sentence, or leave it out")
    request = ChunkRequest(
        model=model,
        size=ChunkSize(num_tokens=tokens, overlap=overlap, tolerance=tolerance),
        at_sentences=end is not None,
        by=by,
        prompt=prompt,
        text_column=text_column,
        id_column=id_column,
        keep_columns=tuple(name.strip() for name in keep.split(",") if name.strip()),
        max_line_mb=max_line_mb,
    )
    *paths, out = corpus
    return tell(run(paths, Path(out), request, workers, refresh=refresh), out)


def run(
    paths: list[str], out: Path, request: "ChunkRequest", workers: int, *, refresh: bool
) -> "ChunkResult":
    """Chunk the files, with a bar of their bytes."""
    from tqdm import tqdm

    from kl3m_embeddings.data.readers.documents import list_sources
    from kl3m_embeddings.embed.chunk_corpus import chunk_corpus

    num_bytes = sum(source.num_bytes for source in list_sources(paths))
    with tqdm(total=num_bytes or None, unit="B", unit_scale=True, disable=None) as bar:
        return chunk_corpus(
            paths, out, request, workers=workers, refresh=refresh, on_bytes=bar.update
        )


def tell(result: "ChunkResult", out: str) -> int:
    """Print what was made and what could not be; the exit code."""
    from kl3m_embeddings.data.readers.records import counted

    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for one in result.outputs:
        counts.update(one.counts)
        skipped.update(one.skipped)
    num_files = len(result.outputs)
    print(
        f"{out}: {counts['chunks']:,} chunks of {counts['documents']:,} documents in "
        f"{num_files:,} file{'s' if num_files != 1 else ''}, {counts['tokens']:,} tokens"
    )
    print(f"  made now: {len(result.made):,}; skipped rows: {counted(skipped)}")
    if counts["duplicate_ids"]:
        warn(f"{counts['duplicate_ids']:,} documents have the id of one before in their file")
    for error in result.faults.values():
        say(f"error: {error}")
    if result.faults:
        say(
            f"error: {len(result.faults)} of {num_files + len(result.faults)} files could not be "
            "chunked: mend them, and run the same command again for these alone"
        )
        return max(error.exit_code for error in result.faults.values())
    if not counts["documents"]:
        say(f"error: {out}: no documents (skipped: {counted(skipped)})")
        return 65
    return 0
